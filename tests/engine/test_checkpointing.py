"""Files of checkpoints: whole, checked, rotated; a disk that is full."""

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from psa_pose.engine import checkpoint_io
from psa_pose.engine.checkpoint_io import AtomicCheckpointIO
from psa_pose.engine.checkpointing import set_aside
from psa_pose.engine.resume import damage, kept, newest_whole
from psa_pose.errors import CheckpointError, ConfigError
from tests.engine.conftest import last_of


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weights = {f'layer{i}.weight': torch.rand(50 + i, generator=generator) for i in range(9)}
    return {'state_dict': weights, 'global_step': 7, 'meta': {'names': ['nose', 'left_eye']}}


def same(a: Any, b: Any) -> bool:
    weights, others = a.pop('state_dict'), b.pop('state_dict')
    equal = a == b and weights.keys() == others.keys()
    equal = equal and all(torch.equal(weights[name], others[name]) for name in weights)
    a['state_dict'], b['state_dict'] = weights, others
    return equal


def test_a_flipped_byte_is_found_wherever_it_matters(tmp_path: Path) -> None:
    """Every byte of a file flipped in turn: either it is reported, or nothing has changed."""
    path, expected = tmp_path / 'a.ckpt', content()
    AtomicCheckpointIO().save_checkpoint(expected, path)
    assert damage(path) is None
    whole, silent = path.read_bytes(), 0
    positions = random.Random(0).sample(range(len(whole)), 600)
    for position in positions:
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        if damage(path) is None:
            silent += 1
            assert same(torch.load(path, weights_only=True), expected), position
    assert silent < 15  # within the words before the checksum itself


def test_torch_load_alone_takes_a_flipped_bit_for_a_weight(tmp_path: Path) -> None:
    """Why the checksums are checked here; where this fails, `damage` may go."""
    path = tmp_path / 'a.ckpt'
    torch.save(content(), path)
    weights = content()['state_dict']['layer3.weight'].numpy().tobytes()
    whole = path.read_bytes()
    at = whole.index(weights) + 5
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    assert not same(torch.load(path, weights_only=True), content())
    assert 'checksum of' in str(damage(path))  # that of a zip's entry


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda path: path.write_bytes(b''), 'it is empty'),
        (lambda path: os.truncate(path, path.stat().st_size // 2), 'it is cut off'),
        (lambda path: os.truncate(path, path.stat().st_size - 1), 'its checksum is wrong'),
        (lambda path: path.write_bytes(b'<html>404</html>'), 'it is cut off or overwritten'),
    ],
    ids=['empty', 'half', 'one byte', 'another'],
)
def test_a_damaged_file_is_passed_over_and_kept(tmp_path: Path, spoil: Any, message: str) -> None:
    for step in (900, 1000, 1100):
        AtomicCheckpointIO().save_checkpoint(content(), tmp_path / f'epoch=2_step={step}.ckpt')
    newest = tmp_path / 'epoch=2_step=1100.ckpt'
    spoil(newest)
    path, damaged = newest_whole(tmp_path)
    assert path.name == 'epoch=2_step=1000.ckpt'
    assert message in damaged[newest]
    set_aside(damaged, path)
    assert os.readlink(tmp_path / 'last.ckpt') == path.name
    assert newest_whole(tmp_path) == (path, {})
    assert 'epoch=2_step=1100.ckpt.damaged' in names(tmp_path)
    for each in kept(tmp_path):
        spoil(each)
    with pytest.raises(CheckpointError, match=r'no checkpoint is whole: .*step=1000.*step=900'):
        newest_whole(tmp_path)


def test_a_copy_of_last_alone_is_enough(run: Any, tmp_path: Path) -> None:
    whole = run('train_cfg.max_epochs=2')
    folder = tmp_path / 'run/checkpoints'
    first = tmp_path / 'first.ckpt'
    shutil.copy(folder / 'epoch=1_step=6.ckpt', first)
    shutil.rmtree(tmp_path / 'run')
    folder.mkdir(parents=True)
    shutil.copy(first, folder / 'last.ckpt')
    assert run('train_cfg.max_epochs=2', resume=True) == whole[6:]
    assert (folder / 'last.ckpt').is_symlink()


def test_last_is_the_newest_though_a_kill_came_between(run: Any, tmp_path: Path) -> None:
    run('train_cfg.max_epochs=2')
    last = tmp_path / 'run/checkpoints/last.ckpt'
    last.unlink()
    last.symlink_to('epoch=1_step=6.ckpt')
    run('train_cfg.max_epochs=2', resume=True)  # there is nothing left to train
    assert os.readlink(last) == 'epoch=2_step=12.ckpt'


def test_rotation_keeps_the_newest_and_the_best(run: Any, tmp_path: Path) -> None:
    hook = "dict(interval=2, by_epoch=False, max_keep_ckpts=3, save_best='EPE', rule='max')"
    run(
        'train_cfg.max_epochs=3',
        'train_cfg.val_interval=1',
        "val_evaluator=[dict(type='CocoMetric'), dict(type='EPE')]",
        f'default_hooks.checkpoint={hook}',
    )
    (best, *rest) = names(tmp_path / 'run/checkpoints')
    assert best.startswith('best_epoch=1_EPE=')  # an error of keypoints is highest at first
    assert rest == [f'epoch=3_step={step}.ckpt' for step in (14, 16, 18)] + ['last.ckpt']
    assert last_of(tmp_path)['global_step'] == 18
    assert os.readlink(tmp_path / 'run/checkpoints/last.ckpt') == 'epoch=3_step=18.ckpt'


@pytest.mark.parametrize(('option', 'kept_files'), [('True', 1), ('False', 0)])
def test_save_last_is_mmengines(run: Any, tmp_path: Path, option: str, kept_files: int) -> None:
    hook = f'dict(interval=5, save_last={option}, save_best=None)'
    run('train_cfg.max_epochs=1', f'default_hooks.checkpoint={hook}')
    assert len(kept(tmp_path / 'run/checkpoints')) == kept_files


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('max_keep_ckpts=0', r'max_keep_ckpts \(or -1 for all\): expected a whole number'),
        ('by_epoch=1', 'checkpoint.by_epoch: expected True or False'),
        ('on_save_error=ignore', "on_save_error must be 'stop' or 'continue', got 'ignore'"),
        ('max_keep_ckpt=1', "no option 'max_keep_ckpt'; did you mean 'max_keep_ckpts'"),
    ],
)
def test_values_that_make_no_sense_are_named(run: Any, option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(f'default_hooks.checkpoint.{option}')


def test_an_error_of_ours_is_no_full_disk(tmp_path: Path) -> None:
    path = tmp_path / 'last.ckpt'
    AtomicCheckpointIO().save_checkpoint({'step': 1}, path)

    class Broken:
        def __reduce__(self) -> Any:
            raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        AtomicCheckpointIO('continue').save_checkpoint({'broken': Broken()}, path)
    assert torch.load(path, weights_only=True) == {'step': 1}
    assert names(tmp_path) == ['last.ckpt']


class TestAFileSystemThatIsLost:
    """A folder that is not there, as while its mount comes back."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint_io, 'PAUSE', 0.05)
        monkeypatch.setattr(checkpoint_io, 'PATIENCE', 0.4)

    def test_for_a_moment(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mount, path = tmp_path / 'mount', tmp_path / 'mount/w/checkpoints/last.ckpt'
        (tmp_path / 'away/w').mkdir(parents=True)
        back = threading.Timer(0.15, os.rename, (tmp_path / 'away', mount))
        back.start()
        AtomicCheckpointIO().save_checkpoint({'step': 1}, path)
        back.join()
        assert damage(path) is None
        said = capsys.readouterr().err.splitlines()
        assert said == [
            f'warning: cannot write {path}: {os.strerror(errno.ENOENT)}; trying again for 0 s'
        ]

    @pytest.mark.parametrize('policy', ['stop', 'continue'])
    def test_for_good(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
    ) -> None:
        """And nothing is made below the mount point, where nobody would find it again."""
        path = tmp_path / 'mount/w/checkpoints/last.ckpt'
        if policy == 'stop':
            with pytest.raises(CheckpointError, match=f'{path.parent} is not there'):
                AtomicCheckpointIO(policy).save_checkpoint({'step': 1}, path)
        else:
            AtomicCheckpointIO(policy).save_checkpoint({'step': 1}, path)
            assert 'training goes on without it' in capsys.readouterr().err
        assert not (tmp_path / 'mount').exists()

    def test_what_does_not_pass_is_not_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / 'last.ckpt.partial').mkdir()  # EISDIR
        monkeypatch.setattr(checkpoint_io.time, 'sleep', lambda _: pytest.fail('it waits'))
        with pytest.raises(CheckpointError, match=os.strerror(errno.EISDIR)):
            AtomicCheckpointIO().save_checkpoint({'step': 1}, tmp_path / 'last.ckpt')


FULL = """
import errno, os, sys, torch
from pathlib import Path
from psa_pose.engine.checkpoint_io import AtomicCheckpointIO
from psa_pose.engine.resume import damage
from psa_pose.errors import CheckpointError

folder = Path(sys.argv[1])
small, large = {'x': torch.zeros(50_000)}, {'x': torch.zeros(250_000)}
good = folder / 'epoch=1_step=6.ckpt'
AtomicCheckpointIO().save_checkpoint(small, good)
try:
    AtomicCheckpointIO('stop').save_checkpoint(large, folder / 'epoch=2_step=12.ckpt')
    raise SystemExit('written')
except CheckpointError as error:
    print(error)
io = AtomicCheckpointIO('continue')
io.save_checkpoint(large, folder / 'epoch=2_step=12.ckpt')
io.remove_checkpoint(good)  # as a best one that the new one replaces
io.save_checkpoint(small, folder / 'epoch=3_step=18.ckpt')  # there is room for it
assert damage(good) is None and damage(folder / 'epoch=3_step=18.ckpt') is None
print(sorted(os.listdir(folder)))
"""


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path) -> None:
    """A file system of 1 MB of its own, really full."""
    (tmp_path / 'full.py').write_text(FULL)
    mount = f'mount -t tmpfs -o size=700k none {tmp_path}/disk && exec "$@"'
    (tmp_path / 'disk').mkdir()
    if (
        not shutil.which('unshare')
        or subprocess.run(
            ['unshare', '-rm', 'sh', '-c', mount, 'sh', 'true'], capture_output=True
        ).returncode
    ):
        pytest.skip('no file system can be mounted in a user namespace here')
    command = ['unshare', '-rm', 'sh', '-c', mount, 'sh', sys.executable, f'{tmp_path}/full.py']
    done = subprocess.run(
        [*command, f'{tmp_path}/disk'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    space = os.strerror(errno.ENOSPC)
    message, files = done.stdout.splitlines()
    assert f'cannot write {tmp_path}/disk/epoch=2_step=12.ckpt: {space} (' in message
    assert f'the last good checkpoint is {tmp_path}/disk/epoch=1_step=6.ckpt' in message
    assert files == "['epoch=1_step=6.ckpt', 'epoch=3_step=18.ckpt']"
    assert 'MB free); training goes on without it' in done.stderr
