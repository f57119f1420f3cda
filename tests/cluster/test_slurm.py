"""tools/cluster/train.sbatch and tools/slurm_*.sh in a real SLURM of two nodes (slurm.sh)."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.misfits import misfit
from tests.cluster.undisturbed import Undisturbed, last_of, steps, undisturbed
from tests.conftest import ROOT
from tests.processes import CONFIG, options

pytestmark = pytest.mark.cluster

SCRIPT = ROOT / 'tests/cluster/slurm.sh'
CPU = ('--gres=none', '--cpus-per-task=1')
ENDS = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')


class Slurm:
    """A SLURM of nodes n1 and n2, gone with `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'OMP_NUM_THREADS': '1',
            'SLURM_CONF': str(folder / 'slurm.conf'),
            'SLURM_NODE_TIMEOUT': '9',
        }
        folder.mkdir()
        ready = folder / 'ready'
        # Its command ends with this process, and all of it with its command.
        command = [SCRIPT, folder, 'bash', '-c', 'touch "$0" && cat', ready]
        self.process = subprocess.Popen(command, env=self.environment, stdin=subprocess.PIPE)
        end = time.monotonic() + 20
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise AssertionError(self.logs())
            time.sleep(0.05)

    def __call__(self, *command: object, **environment: str) -> str:
        """What a command says on the login node."""
        done = subprocess.run(
            [str(word) for word in (SCRIPT, self.folder, '--enter', *command)],
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=80,
        )
        assert done.returncode == 0, f'{command}: {done.stdout}{done.stderr}{self.logs()}'
        return done.stdout + done.stderr

    def unplug(self, node: str) -> None:
        subprocess.run([SCRIPT, self.folder, '--unplug', node], check=True, timeout=20)

    def plug(self, node: str) -> None:
        subprocess.run([SCRIPT, self.folder, '--plug', node], check=True, timeout=20)

    def logs(self) -> str:
        return ''.join(path.read_text() for path in self.folder.glob('*.out'))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Batch:
    """train.sbatch in the queue, one task a node."""

    def __init__(self, slurm: Slurm, work_dir: Path, *arguments: str, config: Path) -> None:
        self.slurm = slurm
        self.log_file = work_dir.with_suffix('.txt')
        self.id = slurm(
            'sbatch', '--parsable', '--ntasks-per-node=1', '--time=5', *CPU,
            '--output', self.log_file,
            ROOT / 'tools/cluster/train.sbatch', config, work_dir, *arguments,
        ).strip()  # fmt: skip

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ''

    @property
    def state(self) -> tuple[str, int]:
        """SLURM's word for it, and how often it was restarted."""
        text = self.slurm('scontrol', 'show', 'job', self.id)
        name, restarts = re.search(r'JobState=(\w+)', text), re.search(r'Restarts=(\d+)', text)
        assert name and restarts, text
        return name[1], int(restarts[1])

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.log:
            over = time.monotonic() > end or self.state[0] in ENDS
            assert not over, f'no {text!r}: {self.state} {self.log}{self.slurm.logs()}'
            time.sleep(0.05)

    def wait(self) -> tuple[str, int]:
        """The state that it ends in."""
        end = time.monotonic() + 80
        while (state := self.state)[0] not in ENDS:
            assert time.monotonic() < end, f'{state}: {self.log}{self.slurm.logs()}'
            time.sleep(0.2)
        return state


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    wanted = ('slurmctld', 'slurmd', 'sbatch', 'srun', 'ip', 'unshare', 'nsenter', 'pgrep')
    if missing := [name for name in wanted if not shutil.which(name)]:
        pytest.skip(f'no {", ".join(missing)} here (Debian: slurm-wlm, iproute2)')
    if os.geteuid() != 0 or subprocess.run(['unshare', '--net', '--pid', '-f', 'true']).returncode:
        pytest.skip('network and process namespaces need root')
    slurm = Slurm(tmp_path / 'slurm')
    yield slurm
    slurm.stop()


@pytest.fixture(scope='module')
def whole(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(demo_root, tmp_path_factory.mktemp('whole'))


def test_requeued_before_its_time_is_over_then_evaluated(
    slurm: Slurm, tmp_path: Path, demo_root: Path, whole: Undisturbed
) -> None:
    work_dir = tmp_path / 'w'
    batch = Batch(slurm, work_dir, *options(demo_root), config=misfit(tmp_path, seconds=0.15))
    batch.wait_for('step 4/')
    slurm('scancel', '--signal=USR1', batch.id)  # as `--signal` does, to the tasks alone
    assert batch.wait() == ('COMPLETED', 1)
    assert 'requeued after status 138' in batch.log and 'resume    ' in batch.log
    assert [step for step, _ in steps(batch)] == list(range(1, 13))  # type: ignore[arg-type]
    whole.check(dict(steps(batch)), work_dir)  # type: ignore[arg-type]

    metrics = tmp_path / 'metrics.json'
    slurm(
        'tools/slurm_test.sh', 'low', 'name', CONFIG, work_dir / 'checkpoints/last.ckpt',
        '--metrics', metrics, *options(demo_root),
        GPUS='2', GPUS_PER_NODE='1', CPUS_PER_TASK='1', SRUN_ARGS='--gres=none',
    )  # fmt: skip
    assert json.loads(metrics.read_text())['AP'] >= 0


def test_cancelled_is_saved_and_not_requeued(slurm: Slurm, tmp_path: Path, demo_root: Path) -> None:
    work_dir = tmp_path / 'w'
    batch = Batch(slurm, work_dir, *options(demo_root), config=misfit(tmp_path, seconds=0.15))
    batch.wait_for('step 4/')
    slurm('scancel', batch.id)
    assert batch.wait() == ('CANCELLED', 0)
    assert 'stopped by SIGTERM' in batch.log and 'requeued' not in batch.log
    assert last_of(work_dir)['global_step'] >= 4


def test_lost_node(slurm: Slurm, tmp_path: Path, demo_root: Path, whole: Undisturbed) -> None:
    work_dir = tmp_path / 'w'
    batch = Batch(slurm, work_dir, *options(demo_root), config=misfit(tmp_path, seconds=0.15))
    batch.wait_for('step 4/')
    slurm.unplug('n2')
    batch.wait_for('FAILURE')
    slurm.plug('n2')
    assert batch.wait() == ('COMPLETED', 1)
    whole.check(dict(steps(batch)), work_dir)  # type: ignore[arg-type]


def test_slurm_train_sh(slurm: Slurm, tmp_path: Path, demo_root: Path) -> None:
    """Two tasks on one node."""
    given = {'GPUS': '2', 'CPUS_PER_TASK': '1', 'SRUN_ARGS': '--gres=none'}
    log = slurm(
        'tools/slurm_train.sh', 'low', 'name', CONFIG, tmp_path / 'w', '--dry-run',
        *options(demo_root), **given,
    )  # fmt: skip
    assert re.search(r'ranks +2, 2 on n[12], started by srun', log) and 'all is well' in log
