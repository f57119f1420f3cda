"""A rank that is lost takes all others with it: soon, with a line that names it, and none is left.

Ranks without a launcher's agent, which nobody ends but they themselves, and under torchrun; on
one machine, and on two nodes with a cable between them.
"""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from psa_pose.engine.ranks.watch import ALARMED
from tests.cluster.launching import Job, launch
from tests.cluster.misfits import misfit
from tests.cluster.nodes import Node
from tests.processes import options

SILENT, TIMEOUT = 5, 8
"""Seconds after which a silent rank is dead, and of a collective."""
MORE = 6.0
"""What ending may take on a busy machine, beyond what is configured."""
FOREVER = [
    'train_cfg.max_epochs=10000',
    'train_cfg.val_interval=10000',
    f'env_cfg.dist_cfg.timeout={TIMEOUT}',
    f'env_cfg.dist_cfg.heartbeat_timeout={SILENT}',
]


def ends(job: Job, within: float, *lost: int) -> float:
    """All but those lost end with status 1, each with one line of its own; the seconds it took."""
    start = time.monotonic()
    statuses = job.wait(within + MORE, but=lost)
    for rank, status in enumerate(statuses):
        if rank not in lost:
            assert status == 1, job.log
            assert len(job[rank].errors) == 1, job.log
    return time.monotonic() - start


@pytest.mark.parametrize(('ranks', 'killed'), [(2, 0), (2, 1), (3, 1)])
def test_killed(job: Job, demo_root: Path, tmp_path: Path, ranks: int, killed: int) -> None:
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER), ranks=ranks)
    job.wait_for('step 3/')
    job[killed].send(signal.SIGKILL)
    ends(job, SILENT, killed)
    others = [job[rank].errors[0] for rank in range(ranks) if rank != killed]
    assert all(f'rank {killed}' in line for line in others), others
    if killed:  # the pid is in its beats; of rank 0, which keeps them, its address tells
        assert all(f'pid {job[killed].pid}' in line for line in others), others


@pytest.mark.parametrize('killed', [0, 1])
def test_killed_while_building(job: Job, demo_root: Path, tmp_path: Path, killed: int) -> None:
    """No collective has failed yet, and its silence would be long."""
    config = misfit(tmp_path, rank=killed, what='build')
    patient = 'env_cfg.dist_cfg.heartbeat_timeout=60'
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER, patient), config=config)
    job.wait_for('the hook is being built')
    time.sleep(1.5)  # the others come to where they wait for it
    job[killed].send(signal.SIGKILL)
    ends(job, 0, killed)
    assert f'rank {killed}' in job.errors[0], job.errors


@pytest.mark.parametrize('guilty', [0, 1])
def test_raises(job: Job, demo_root: Path, tmp_path: Path, guilty: int) -> None:
    """An error in training; at its own rank it keeps the traceback."""
    config = misfit(tmp_path, rank=guilty, step=3)
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER), config=config)
    ends(job, SILENT + 20)
    assert 'Traceback' in job[guilty].log and 'Traceback' not in job[1 - guilty].log, job.log
    for rank in range(2):
        (line,) = job[rank].errors
        assert 'RuntimeError: a mistake of this hook' in line
        assert f'rank {guilty}' in line or rank == guilty == 0, line


def test_a_data_worker_dies(job: Job, demo_root: Path, tmp_path: Path) -> None:
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER, 'train_dataloader.num_workers=1'))
    job.wait_for('step 3/')
    (worker,) = set(job[1].everyone()) - {job[1].pid}
    os.kill(worker, signal.SIGKILL)
    ends(job, SILENT)
    for rank in range(2):
        (line,) = job[rank].errors
        assert 'rank 1' in line and f'(pid {worker}) was killed by SIGKILL' in line


@pytest.mark.parametrize('stopped', [0, 1])
def test_hangs(job: Job, demo_root: Path, tmp_path: Path, stopped: int) -> None:
    """A process that does nothing any more; its connections stay open."""
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER))
    job.wait_for('step 3/')
    job[stopped].send(signal.SIGSTOP)
    ends(job, TIMEOUT, stopped)
    (line,) = job[1 - stopped].errors
    assert f'rank {stopped}' in line


@pytest.mark.cluster  # as long as a collective's timeout
@pytest.mark.parametrize(('what', 'where'), [('data', 'waiting for data'), ('hook', 'in step 4')])
def test_keeps_the_others_waiting(
    job: Job, demo_root: Path, tmp_path: Path, what: str, where: str
) -> None:
    """A rank that lives and beats, but comes to no collective any more."""
    config = misfit(tmp_path, **({} if what == 'data' else dict(rank=1, step=3, what='hang')))
    more = ['env_cfg.dist_cfg.timeout=3']
    if what == 'data':
        more.append('train_dataloader.dataset.pipeline.0.type=StuckImage')
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER, *more), config=config)
    ends(job, 3 + ALARMED)
    for rank in range(2):
        (line,) = job[rank].errors
        assert (
            'in vain' in line
            and f'rank 1 ({socket.gethostname()}, pid {job[1].pid}) is {where}' in line
        ), line


@pytest.mark.parametrize('lost', [0, 1])
def test_a_node_loses_its_network(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node], lost: int
) -> None:
    """Seen from both sides: nobody hears anything, no connection is closed."""
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER), nodes=nodes)
    job.wait_for('step 3/')
    nodes[lost].plug('down')
    ends(job, TIMEOUT)
    for rank, other in ((0, 'beta'), (1, 'alpha')):
        (line,) = job[rank].errors
        assert f'rank {1 - rank}' in line and other in line, line


@pytest.mark.parametrize('lost', [0, 1])
def test_a_node_is_gone(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node], lost: int
) -> None:
    """Without its processes a cut off node never comes back, nor closes a connection."""
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER), nodes=nodes)
    job.wait_for('step 3/')
    nodes[lost].plug('down')
    job[lost].kill_all()
    ends(job, TIMEOUT, lost)
    (line,) = job[1 - lost].errors
    assert f'rank {lost}' in line and nodes[lost].name in line, line


def test_a_network_that_comes_back_in_time(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    launch(job, tmp_path / 'w', *options(demo_root, *FOREVER), nodes=nodes)
    job.wait_for('step 3/')
    nodes[1].plug('down')
    time.sleep(SILENT / 2)
    nodes[1].plug('up')
    step = max(map(int, re.findall(r'step (\d+)/', job.log)))
    job.wait_for(f'step {step + 5}/')
    assert not job.errors
