"""A signal to a job of several ranks, whichever of them gets it and when: all save once, and leave
at the same step with the signal's status; the resumed run is the undisturbed one."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from psa_pose.engine.resume import kept
from tests.cluster.launching import Job, launch
from tests.cluster.misfits import misfit
from tests.cluster.undisturbed import Undisturbed, last_of, steps, undisturbed
from tests.processes import options

STOPPED = 'stopped by SIGTERM; go on with --resume'


@pytest.fixture(scope='module')
def whole(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(demo_root, tmp_path_factory.mktemp('whole'))


def curve(*jobs: Job) -> dict[int, str]:
    """Loss and rate of each step; no step may be there twice."""
    found = steps(*jobs)
    assert [step for step, _ in found] == list(range(1, len(found) + 1)), found
    return dict(found)


def step_of(work_dir: Path) -> int:
    return last_of(work_dir)['global_step']


def assert_goes_on(whole: Undisturbed, job: Job, work_dir: Path, root: Path) -> None:
    with Job(job.folder / 'again') as again:
        launch(again, work_dir, '--resume', *options(root), config=slow(job.folder))
        assert again.wait(120) == [0, 0], again.log
        whole.check(curve(job, again), work_dir)


def slow(folder: Path) -> Path:
    """Steps that take long enough to be hit."""
    return misfit(folder, seconds=0.15)


@pytest.mark.parametrize('hit', [(0, 1), (1,), (0,)])
def test_within_an_epoch(
    job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed, hit: tuple[int, ...]
) -> None:
    work_dir = tmp_path / 'w'
    launch(job, work_dir, *options(demo_root), config=slow(job.folder))
    job.wait_for('step 4/')
    for rank in hit:
        job[rank].send(signal.SIGTERM)
    assert job.wait(30) == [143, 143], job.log
    assert job.log.count(STOPPED) == 1 and not job.errors and 'Traceback' not in job.log
    assert job.log.count('saving at the next step') == (0 in hit)
    assert step_of(work_dir) == max(curve(job)) < 9
    saved = {int(path.stem.rpartition('=')[2]) for path in kept(work_dir / 'checkpoints')}
    assert saved == {3, step_of(work_dir)}, 'of the first epoch, and the stop'
    assert_goes_on(whole, job, work_dir, demo_root)


def test_at_different_times(job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed) -> None:
    """As a scheduler reaches one node after the other: one rank while the other saves."""
    draw, work_dir, jobs = random.Random(0), tmp_path / 'w', [job]
    launch(job, work_dir, *options(demo_root), config=slow(job.folder))
    for attempt in range(3):
        run = jobs[-1]
        run.wait_for('  loss ', times=2)  # the first is of a step that not all have left
        for rank in draw.sample((0, 1), 2):
            time.sleep(draw.uniform(0, 0.3))
            if run[rank].status is None:
                run[rank].send(signal.SIGTERM)
        assert run.wait(30) == [143, 143], run.log
        assert run.log.count(STOPPED) == 1 and not run.errors, run.log
        jobs.append(Job(tmp_path / f'logs{attempt}'))
        launch(jobs[-1], work_dir, '--resume', *options(demo_root), config=slow(job.folder))
    assert jobs[-1].wait(120) == [0, 0], jobs[-1].log
    whole.check(curve(*jobs), work_dir)


def test_within_an_evaluation(
    job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed
) -> None:
    """It is finished first, on both ranks."""
    launch(job, tmp_path / 'w', *options(demo_root), config=slow(job.folder))
    job.wait_for('step 6/')
    time.sleep(0.05)  # val_interval is 2 epochs
    job[1].send(signal.SIGTERM)
    assert job.wait(30) == [143, 143], job.log
    assert job.log.count(STOPPED) == 1 and not job.errors
    assert_goes_on(whole, job, tmp_path / 'w', demo_root)


@pytest.mark.parametrize('hit', [(0, 1), (1,)])
def test_before_the_first_step(
    job: Job, demo_root: Path, tmp_path: Path, hit: tuple[int, ...]
) -> None:
    """Nothing is saved; a rank that was not hit ends with the one that was, and says why."""
    launch(job, tmp_path / 'w', *options(demo_root), config=misfit(tmp_path, seconds=3))
    job.wait_for('work dir')
    time.sleep(0.5)
    for rank in hit:
        job[rank].send(signal.SIGTERM)
    statuses = job.wait(30)
    assert all(statuses[rank] == 143 for rank in hit) and 0 not in statuses, job.log
    if 0 in hit:
        assert job.log.count('stopped by SIGTERM before its first step') == 1
    else:
        (line,) = job[0].errors
        assert 'rank 1' in line and 'SIGTERM' in line, line
    assert not list((tmp_path / 'w').glob('checkpoints/*'))


def test_a_second_signal_ends_all_at_once(job: Job, demo_root: Path, tmp_path: Path) -> None:
    config = misfit(tmp_path, step=4, rank=1, what='hang')
    launch(job, tmp_path / 'w', *options(demo_root), config=config)
    job.wait_for('step 4/')
    for _ in range(2):
        for rank in range(2):
            job[rank].send(signal.SIGTERM)
        time.sleep(2.2)  # what comes sooner is a launcher's copy of the first
    assert job.wait(5) == [143, 143], job.log
    assert 'stopped by SIGTERM at once' in job[0].log


@pytest.mark.parametrize('everyone', [pytest.param(False, marks=pytest.mark.slow), True])
def test_torchrun(
    job: Job, demo_root: Path, tmp_path: Path, whole: Undisturbed, everyone: bool
) -> None:
    """Its agent hands the signal on, which may reach the ranks twice."""
    given = [str(slow(job.folder)), '--work-dir', str(tmp_path / 'w'), *options(demo_root)]
    run = job.torchrun(['--standalone', '--nproc-per-node=2'], *given)
    job.wait_for('step 4/', 90)
    for pid in run.everyone() if everyone else [run.pid]:
        os.kill(pid, signal.SIGTERM)
    (status,) = job.wait(40)
    assert status == 1, 'of torchrun itself, whatever its ranks say'
    assert job.log.count(STOPPED) == 1 and not job.errors, job.log
    assert step_of(tmp_path / 'w') == max(curve(job)) < 9
    if everyone:
        assert_goes_on(whole, job, tmp_path / 'w', demo_root)
