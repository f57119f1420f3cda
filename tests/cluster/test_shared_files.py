"""The work dir that all ranks share: only rank 0 writes to it, and what it has written is whole
although the file system stood still, was full, or was gone for a moment."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from psa_pose.engine.resume import damage, kept
from tests.cluster.launching import Job, launch
from tests.cluster.misfits import misfit
from tests.cluster.nodes import Node
from tests.processes import options

pytestmark = pytest.mark.cluster

SAVING = 'default_hooks.checkpoint=dict(interval=1, by_epoch=False, max_keep_ckpts=3{})'


class Disk:
    """A small file system of its own, which can be stopped.

    Args:
        folder: for its image, and where it is mounted.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.image, self.path = folder / 'disk.img', folder / 'disk'
        self.path.mkdir()
        with self.image.open('wb') as file:
            file.truncate(megabytes << 20)
        _do('mkfs.ext4', '-q', self.image)
        _do('mount', '-o', 'loop', self.image, self.path)

    def freeze(self, still: bool) -> None:
        """Let all that writes wait, as on a network file system whose server does not answer."""
        _do('fsfreeze', '-f' if still else '-u', self.path)

    def remount(self, how: str) -> None:
        _do('mount', '-o', f'remount,{how}', self.path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / 'disk'
    try:
        yield Disk(tmp_path, 64)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no file system can be mounted here: {getattr(error, "stderr", error)}')
    finally:
        subprocess.run(['fsfreeze', '-u', path], capture_output=True)
        subprocess.run(['umount', '--lazy', path], capture_output=True)


def _do(*words: object) -> None:
    subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)


def steps(job: Job) -> list[int]:
    return [int(step) for step in re.findall(r'step (\d+)/\d+  loss', job.log)]


def assert_whole(work_dir: Path) -> None:
    files = kept(work_dir / 'checkpoints')
    assert files and not [path for path in files if damage(path)]
    assert not list((work_dir / 'checkpoints').glob('*.partial'))


def test_only_rank_0_writes(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    """What the other node writes to the work dir, the data or its home would be found in folders
    that it alone sees there; training, evaluation, best checkpoint and logs included."""
    work_dir, seen = tmp_path / 'w', {}
    work_dir.mkdir()
    home = Path.home() / '.cache'
    for place in (work_dir, demo_root, *([home] if home.is_dir() else [])):
        seen[place] = tmp_path / 'seen' / place.name
        seen[place].mkdir(parents=True)
    _do('cp', '-r', f'{demo_root}/.', seen[demo_root])
    nodes[1].other += [(place, content) for place, content in seen.items()]
    before = listing(*seen.values())
    launch(job, work_dir, *options(demo_root), nodes=nodes)
    assert job.wait(60) == [0, 0], job.log
    assert listing(*seen.values()) == before
    assert {path.name for path in work_dir.iterdir()} >= {'checkpoints', 'tensorboard', 'config.py'}
    assert_whole(work_dir)


def test_a_work_dir_that_is_not_shared(
    job: Job, demo_root: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    """Trains, since rank 0 alone writes; whoever resumes there is told, once."""
    work_dir, own = tmp_path / 'w', tmp_path / 'own'
    for folder in (work_dir, own):
        folder.mkdir()
    nodes[1].other.append((work_dir, own))
    short = [*options(demo_root), 'train_cfg.max_epochs=1']
    launch(job, work_dir, *short, nodes=nodes)
    assert job.wait(60) == [0, 0], job.log
    with Job(tmp_path / 'again') as again:
        launch(again, work_dir, '--resume', *short, nodes=nodes)
        assert again.wait(30) == [1, 1], again.log
        (line,) = again.errors
        assert 'rank 1 (beta)' in line and str(kept(work_dir / 'checkpoints')[0]) in line


def listing(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Sizes and times of all files."""
    found = {}
    for folder in folders:
        for path in folder.rglob('*'):
            status = path.lstat()
            found[path] = status.st_size, status.st_mtime_ns
    return found


def test_a_file_system_that_stands_still(
    job: Job, demo_root: Path, tmp_path: Path, disk: Disk
) -> None:
    """For longer than a rank may be silent: rank 0 waits in its write, and the others for it."""
    waits = ['env_cfg.dist_cfg.heartbeat_timeout=3', 'env_cfg.dist_cfg.timeout=30']
    given = options(demo_root, SAVING.format(''), *waits)
    launch(job, disk.path / 'w', *given, config=misfit(tmp_path, seconds=0.1))
    job.wait_for('step 3/')
    disk.freeze(True)
    time.sleep(5)
    stood = steps(job)
    disk.freeze(False)
    assert max(stood) < 12, 'it came to its end before the disk stood still'
    assert job.wait(60) == [0, 0], job.log
    assert steps(job) == list(range(1, 13))
    assert not job.errors
    assert_whole(disk.path / 'w')


def test_a_file_system_that_stands_still_for_too_long(
    job: Job, demo_root: Path, tmp_path: Path, disk: Disk
) -> None:
    waits = ['env_cfg.dist_cfg.heartbeat_timeout=3', 'env_cfg.dist_cfg.timeout=4']
    given = options(demo_root, SAVING.format(''), *waits)
    launch(job, disk.path / 'w', *given, config=misfit(tmp_path, seconds=0.1))
    job.wait_for('step 3/')
    disk.freeze(True)
    try:
        start = time.monotonic()
        while job[1].status is None:
            assert time.monotonic() - start < 30, job.log
            time.sleep(0.05)
        (line,) = job[1].errors
        assert 'rank 0' in line and 'saving a checkpoint' in line, line
    finally:
        disk.freeze(False)
    assert job.wait(30) == [1, 1], job.log
    assert not [path for path in kept(disk.path / 'w/checkpoints') if damage(path)]


@pytest.mark.parametrize('policy', ['stop', 'continue'])
def test_a_file_system_that_becomes_read_only(
    job: Job, demo_root: Path, tmp_path: Path, disk: Disk, policy: str
) -> None:
    saving = SAVING.format(f", on_save_error='{policy}'")
    launch(job, disk.path / 'w', *options(demo_root, saving), config=misfit(tmp_path, seconds=0.1))
    job.wait_for('step 4/')
    while True:
        try:
            disk.remount('ro')
            break
        except subprocess.CalledProcessError:  # just being written to
            time.sleep(0.01)
    if policy == 'stop':
        assert job.wait(30) == [1, 1], job.log
        assert len(job[0].errors) == 1 and 'Read-only file system' in job[0].errors[0]
        assert all('rank 0' in line for line in job[1].errors)
        assert 'the last good checkpoint is' in job[0].errors[0]
    else:
        job.wait_for('training goes on without it')
        disk.remount('rw')
        assert job.wait(60) == [0, 0], job.log
        assert steps(job) == list(range(1, 13))
    assert_whole(disk.path / 'w')


def test_lost_for_a_moment(job: Job, demo_root: Path, tmp_path: Path) -> None:
    """The folder is not there, as on a mount that failed over: the save is tried again."""
    work_dir, gone = tmp_path / 'shared/w', tmp_path / 'gone'
    saving = SAVING.format('')
    launch(job, work_dir, *options(demo_root, saving), config=misfit(tmp_path, seconds=0.1))
    job.wait_for('step 4/')
    os.rename(tmp_path / 'shared', gone)
    job.wait_for('trying again')
    os.rename(gone, tmp_path / 'shared')
    assert job.wait(60) == [0, 0], job.log
    assert steps(job) == list(range(1, 13))
    assert len(kept(work_dir / 'checkpoints')) == 3
    assert_whole(work_dir)
