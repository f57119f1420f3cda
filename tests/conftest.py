"""What tests share: threads, hypothesis' profile, real data, a small rendered dataset."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Thousands of small files, many of them synced: on a busy disk tests would wait for little else.
MEMORY = Path('/dev/shm')
if 'TMPDIR' not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ['TMPDIR'] = tempfile.tempdir = str(MEMORY)
torch.set_num_threads(1)  # pytest -n is the parallelism
os.environ['OMP_NUM_THREADS'] = '1'
if sys.platform == 'linux':  # what a test changes in this process reaches workers by fork alone
    multiprocessing.set_start_method('fork', force=True)
settings.register_profile('deterministic', derandomize=True, deadline=None, max_examples=50)
settings.register_profile('thorough', deadline=None, max_examples=2000)  # other ones every time
settings.load_profile('deterministic')
# nohup and a shell's background ignore these, and so would every process that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """Run `tools/NAME.py ARGS...` as a user would, from the checkout, in a process of its own.

    It is forked from a clean one that has done the imports, which take 5 s; see `tests.processes`.
    """
    from tests.processes import run_script

    def run(name: str, *args: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return run_script(ROOT / 'tools' / f'{name}.py', [str(arg) for arg in args], timeout)

    return run
