"""What tests share: threads, hypothesis' profile, real data, a small rendered dataset."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).parent.parent

torch.set_num_threads(1)  # pytest -n is the parallelism
os.environ['OMP_NUM_THREADS'] = '1'
settings.register_profile('deterministic', derandomize=True, deadline=None, max_examples=50)
settings.load_profile('deterministic')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real images with keypoints, beside the checkout; see their README."""
    path = ROOT.parent / 'shared' / 'data'
    if not path.is_dir():
        pytest.skip('real data (../shared/data) is not beside this checkout')
    return path


@pytest.fixture(scope='session')
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered dataset of a few dozen images, laid out as the demo's."""
    from psa_pose.datasets.synthetic import render_dataset

    root = tmp_path_factory.mktemp('demo')
    render_dataset(root, 'train', 24, seed=1)
    render_dataset(root, 'val', 8, seed=1)
    return root


RunTool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_tool(tmp_path: Path) -> RunTool:
    """Run `tools/NAME.py ARGS...` as a user would, from the checkout."""

    def run(name: str, *args: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, args)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)

    return run
