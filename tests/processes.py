"""Training in real processes that can really be killed, without 5 s of imports for each of them."""

import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

CONFIG = ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py'
KILLS = int(os.environ.get('PSA_POSE_KILLS', 10))  # more take more time
# A clean process imports these once, and each run is forked from it: no thread, no state of a test.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['psa_pose.engine.train', 'tensorboard.summary', 'tests.processes'])


def options(root: Path, *more: str) -> list[str]:
    """Four epochs of six steps on the small rendered dataset."""
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        'train_dataloader.batch_size=8',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'train_cfg.max_epochs=4',
        'train_cfg.val_interval=2',
        'default_hooks.logger.interval=1',
        'default_hooks.visualization.persons=2',
        'trainer.num_sanity_val_steps=0',
        *more,
    ]


def _as_started(stdout: str, stderr: str) -> None:
    """Make a fork what a process is that was just started in the checkout, its output in files."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method(None, force=True)  # of workers


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    _as_started(log, log)
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    from psa_pose.cli import main

    raise SystemExit(main(arguments))


def _run_script(script: str, arguments: list[str], folder: str, variables: dict[str, str]) -> None:
    _as_started(f'{folder}/stdout', f'{folder}/stderr')
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [script, *arguments]
    given = variables.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:1] = [str(Path(script).parent), *filter(None, given)]
    try:
        runpy.run_path(script, run_name='__main__')
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run_script(
    script: Path, arguments: list[str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end in a process of its own, with this one's environment variables."""
    with tempfile.TemporaryDirectory() as folder:
        given = str(script), arguments, folder, dict(os.environ)
        process: Any = CONTEXT.Process(target=_run_script, args=given)
        process.start()
        process.join(timeout)
        alive = process.is_alive()
        if alive:
            process.kill()
            process.join()
        said = [Path(folder, name).read_text() for name in ('stdout', 'stderr')]
    if alive:
        raise subprocess.TimeoutExpired(str(script), timeout, *said)
    return subprocess.CompletedProcess([str(script), *arguments], process.exitcode, *said)


class Training:
    """`psa-pose train` in a process of its own, which leaves with the test at the latest."""

    def __init__(
        self, work_dir: Path, *arguments: str, config: Path = CONFIG, **environment: str
    ) -> None:
        self.work_dir = work_dir
        self.folder = work_dir / 'checkpoints'
        work_dir.mkdir(parents=True, exist_ok=True)
        self.log_file = work_dir / f'log{time.monotonic_ns()}.txt'
        command = ['train', str(config), '--work-dir', str(work_dir), *arguments]
        self.process: Any = CONTEXT.Process(
            target=_run, args=(command, str(self.log_file), environment)
        )
        self.process.start()

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ''

    @property
    def losses(self) -> dict[int, str]:
        found = re.findall(r'step (\d+)/\d+  loss (\S+)  lr (\S+)', self.log)
        return {int(step): f'{loss} {rate}' for step, loss, rate in found}

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait_for(self, text: str, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while text not in self.log:
            assert self.process.is_alive() and time.monotonic() < end, f'no {text!r}: {self.log}'
            time.sleep(0.005)

    def wait(self, timeout: float = 120) -> int:
        """The exit status; negative where a signal killed it."""
        self.process.join(timeout)
        alive = self.process.is_alive()
        self.kill()
        assert not alive, f'still running: {self.log}'
        return self.process.exitcode

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
