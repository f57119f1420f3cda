"""torchrun starts ranks again that were lost, and `--resume auto` goes on from the last checkpoint:
to the very losses of the run that nobody disturbed."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.cluster.launching import Job
from tests.cluster.misfits import misfit
from tests.cluster.nodes import Node
from tests.cluster.undisturbed import Undisturbed, steps, undisturbed
from tests.processes import options

pytestmark = pytest.mark.cluster

SAVING = 'default_hooks.checkpoint=dict(interval=2, by_epoch=False)'
REJOIN = {'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1'}
"""Or a new agent waits in vain for the address that the others know already (torch 2.15)."""
WAITS = ['env_cfg.dist_cfg.timeout=20', 'env_cfg.dist_cfg.heartbeat_timeout=5']


@pytest.fixture(scope='module')
def whole(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(demo_root, tmp_path_factory.mktemp('whole'), SAVING)


def arguments(root: Path, folder: Path) -> list[str]:
    config = misfit(folder, seconds=0.15)
    given = [str(config), '--work-dir', str(folder / 'w'), '--resume', 'auto']
    return [*given, *options(root, SAVING, *WAITS)]


def ranks_of(job: Job, agent: int = 0) -> list[int]:
    """Ids of an agent's ranks."""
    pid = job[agent].pid
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(word) for word in text.split()]


def assert_resumed(whole: Undisturbed, job: Job, work_dir: Path) -> None:
    """Every step is there, some twice: those since the last checkpoint, with the same losses."""
    found = steps(job)
    assert len(found) <= len(whole.curve) + 4, 'at most two for each restart'
    assert all(whole.curve[step] == text for step, text in found)
    whole.check(dict(found), work_dir)


def test_ranks_are_killed(job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed) -> None:
    """First one, then the other."""
    job.torchrun(
        ['--standalone', '--nproc-per-node=2', '--max-restarts=2'], *arguments(demo_root, tmp_path)
    )
    for local, step in ((1, 3), (0, 8)):
        job.wait_for(f'step {step}/', 90)
        killed = sorted(ranks_of(job))[local]
        os.kill(killed, signal.SIGKILL)
        job.wait_for(f'rank {local} ({socket.gethostname()}, pid {killed}) died', 30)
    assert job.wait(90) == [0], job.log
    assert len(job.errors) == job.log.count('resume    ') == 2
    assert_resumed(whole, job, tmp_path / 'w')


def test_an_agent_is_killed(
    job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed, nodes: tuple[Node, Node]
) -> None:
    """With all its ranks, and started again by whatever watches over nodes."""
    launcher = [
        '--nnodes=2', '--nproc-per-node=1', '--max-restarts=3', '--rdzv-backend=c10d',
        '--rdzv-endpoint=alpha:29400', '--rdzv-id=test',
    ]  # fmt: skip
    given = arguments(demo_root, tmp_path)
    for node in nodes:
        job.torchrun(launcher, *given, node=node, **REJOIN)
    job.wait_for('step 5/', 120)
    job[1].kill_all()
    job.wait_for('error: rank 0 (alpha) ended, since rank 1 (beta', 60)
    job.torchrun(launcher, *given, node=nodes[1], **REJOIN)
    assert job.wait(150, but=[1])[0::2] == [0, 0], job.log
    assert_resumed(whole, job, tmp_path / 'w')
