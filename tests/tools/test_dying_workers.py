"""A worker that the system kills ends `tools/train.py` with a line, whatever it was doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, RunTool
from tests.tools.test_bad_input import options, refused

CONFIG = ROOT / 'configs' / 'demo' / 'hrnet_tiny_psa_p_128x96.py'
DOOM = """
import os, signal
from psa_pose.datasets.transforms import LoadImage
from psa_pose.registry import TRANSFORMS

@TRANSFORMS.register_module()
class Doom(LoadImage):
    def transform(self, results):
        if results['img_path'].stem == '000005':
            os.kill(os.getpid(), signal.{})
        return super().transform(results)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a config whose loader's workers meet with a signal at the fifth image."""

    def write(split: str, name: str) -> Path:
        (tmp_path / 'doom.py').write_text(DOOM.format(name))
        monkeypatch.setenv('PYTHONPATH', str(tmp_path))
        path = tmp_path / 'doomed.py'
        path.write_text(f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['doom'])\n")
        return path

    return write


@pytest.mark.parametrize('split', ['train', 'val'])
def test_killed(demo_root: Path, tmp_path: Path, run_tool: RunTool, config, split: str) -> None:
    doom = f'{split}_dataloader.dataset.pipeline.0.type=Doom'
    more = [doom, f'{split}_dataloader.num_workers=2', 'train_cfg.val_interval=1']
    given = [x for x in options(demo_root) if x != 'val_dataloader.num_workers=0']
    path = config(split, 'SIGKILL')
    done = run_tool('train', path, '--work-dir', tmp_path / 'w', *given, *more, timeout=120)
    refused(done, 'of 2 (pid', 'was killed by SIGKILL', 'num_workers, now 2', 'the machine has')


def test_hanging(demo_root: Path, tmp_path: Path, run_tool: RunTool, config) -> None:
    doom = 'train_dataloader.dataset.pipeline.0.type=Doom'
    more = [doom, 'train_dataloader.num_workers=1', 'train_dataloader.timeout=3']
    path = config('train', 'SIGSTOP')
    done = run_tool('train', path, '--work-dir', tmp_path / 'w', *options(demo_root, *more))
    refused(done, 'no batch for 3 s', 'is stopped', '`timeout`')


@pytest.mark.slow
def test_a_scheduler_s_signal_to_all_processes_is_no_worker_s_fault(
    demo_root: Path, tmp_path: Path
) -> None:
    more = ['train_dataloader.num_workers=2', 'train_cfg.max_epochs=1000']
    given = [x for x in options(demo_root, *more) if x != 'train_cfg.max_epochs=1']
    command = [sys.executable, ROOT / 'tools' / 'train.py', CONFIG, '--work-dir', tmp_path / 'w']
    run = subprocess.Popen(
        [*map(str, command), *given],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert run.stdout
        line = ''
        end = time.monotonic() + 120
        while 'samples/s' not in line and time.monotonic() < end:
            line = run.stdout.readline()
        os.killpg(run.pid, signal.SIGTERM)
        error = run.communicate(timeout=60)[1]
    finally:
        run.kill()
    assert run.returncode == 143, error
    assert 'stopped by SIGTERM' in error
    assert 'Traceback' not in error
