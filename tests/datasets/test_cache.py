"""Mapped annotations: the same numbers, from whatever state the files are in, or made anew."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from psa_pose.datasets import CocoStyleDataset, cache
from psa_pose.datasets.annotations import Persons, read_annotations
from psa_pose.errors import DataError
from tests.handmade import coco_content, person_entry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, 'MIN_SIZE', 0)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    monkeypatch.delenv(cache.VARIABLE, raising=False)


def write(path: Path, count: int = 5, **changes) -> Path:
    path.parent.mkdir(exist_ok=True)
    persons = [person_entry(i, image_id=i, **changes) for i in range(1, count + 1)]
    path.write_text(json.dumps(coco_content(persons)))
    return path


@pytest.fixture
def ann_file(tmp_path) -> Path:
    return write(tmp_path / 'data' / 'some.json')


def load(path: Path):
    """The annotations, and how often the file itself was read."""
    reads = []

    def read(ann_file):
        reads.append(ann_file)
        return read_annotations(ann_file)

    return cache.cached(path, read), len(reads)


def assert_same(found, path: Path) -> None:
    expected = read_annotations(path)
    assert (found.info, found.category_id) == (expected.info, expected.category_id)
    for field in fields(Persons):
        a, b = (getattr(x.persons, field.name) for x in (found, expected))
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob('*.psa_pose')
    return file


def test_read_once_then_mapped(ann_file):
    counts = []
    for _ in range(3):
        found, reads = load(ann_file)
        assert_same(found, ann_file)
        assert isinstance(found.persons, cache.MappedPersons)
        counts.append(reads)
    assert counts == [1, 0, 0]
    assert sorted(p.suffix for p in ann_file.parent.iterdir()) == ['.json', '.psa_pose']


def test_small_files_leave_nothing_behind(ann_file, monkeypatch):
    monkeypatch.setattr(cache, 'MIN_SIZE', ann_file.stat().st_size + 1)
    assert load(ann_file)[1] == load(ann_file)[1] == 1
    assert list(ann_file.parent.iterdir()) == [ann_file]


def test_changed_annotations_of_the_same_size_and_times(ann_file):
    load(ann_file)
    before = ann_file.stat()
    changed = ann_file.read_text().replace('"bbox": [20, 10', '"bbox": [21, 10')
    ann_file.write_text(changed)
    os.utime(ann_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ann_file.stat().st_size == before.st_size
    found, reads = load(ann_file)
    assert reads == 1
    assert found.persons.bbox[:, 0].tolist() == [21] * 5


@pytest.mark.parametrize('spoil', ['cut', 'empty', 'bit', 'header', 'zeros', 'folder'])
def test_a_damaged_file_is_made_anew(ann_file, spoil):
    load(ann_file)
    file = cache_file(ann_file.parent)
    data = bytearray(file.read_bytes())
    if spoil == 'bit':
        data[-700] ^= 4
    elif spoil == 'header':
        data[data.index(b'left_hand')] ^= 1
    elif spoil == 'zeros':
        data[:] = bytes(len(data))
    file.unlink()
    if spoil == 'folder':
        file.mkdir()
    else:
        file.write_bytes({'cut': data[:-64], 'empty': b''}.get(spoil, data))
    found, reads = load(ann_file)
    assert reads == 1
    assert_same(found, ann_file)
    if spoil != 'folder':
        assert load(ann_file)[1] == 0


def refuse_writing(monkeypatch, *folders: Path) -> None:
    """As read-only file systems do; the tests may run as root, whom permissions do not stop."""
    real = Path.open

    def open_(self, mode='r', *args, **kwargs):
        if mode == 'xb' and any(folder in self.parents for folder in folders):
            raise OSError(30, 'Read-only file system')
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, 'open', open_)


def test_where_nothing_can_be_written_beside_the_annotations(ann_file, tmp_path, monkeypatch):
    refuse_writing(monkeypatch, ann_file.parent)
    assert load(ann_file)[1] == 1
    assert load(ann_file)[1] == 0
    assert cache_file(tmp_path / 'xdg' / 'psa_pose')


def test_where_nothing_can_be_written_at_all(ann_file, tmp_path, monkeypatch):
    refuse_writing(monkeypatch, tmp_path)
    found, _ = load(ann_file)
    assert_same(found, ann_file)
    assert type(found.persons) is Persons


def test_a_folder_of_one_s_own_or_none(ann_file, tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / 'mine'))
    assert load(ann_file)[1] == 1
    assert cache_file(tmp_path / 'mine')
    monkeypatch.setenv(cache.VARIABLE, 'off')
    assert load(ann_file)[1] == 1
    assert list(ann_file.parent.iterdir()) == [ann_file]


def test_annotations_that_change_while_they_are_read_are_not_kept(ann_file):
    def read(path):
        found = read_annotations(path)
        write(path, count=3)
        return found

    assert len(cache.cached(ann_file, read).persons) == 5
    assert len(load(ann_file)[0].persons) == 3


def test_errors_are_those_of_reading(tmp_path):
    with pytest.raises(DataError, match='No such file'):
        load(tmp_path / 'nowhere.json')
    path = write(tmp_path / 'data' / 'bad.json', keypoints=[1, 2])
    for _ in range(2):
        with pytest.raises(DataError, match='annotation id 1: 2 keypoint numbers'):
            load(path)


def test_no_pickle_is_ever_loaded(ann_file, monkeypatch):
    load(ann_file)
    monkeypatch.setattr(pickle, 'loads', None)
    monkeypatch.setattr(pickle, 'load', None)
    assert_same(load(ann_file)[0], ann_file)


def test_a_spawned_worker_gets_the_file_s_name_not_the_arrays(ann_file, tmp_path):
    write(ann_file, count=2000)
    (tmp_path / 'data').mkdir(exist_ok=True)
    dataset = CocoStyleDataset(ann_file.name, [], (24, 32), data_root=str(ann_file.parent))
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.persons.keypoints, dataset.persons.keypoints)
    cache_file(ann_file.parent).unlink()
    with pytest.raises(DataError, match='deleted or damaged'):
        pickle.loads(data)


def test_processes_at_once(ann_file):
    """Readers that race all get the right numbers, and leave one file."""
    write(ann_file, count=3000)
    code = (
        'import sys; from pathlib import Path; from psa_pose.datasets import cache; '
        'from psa_pose.datasets.annotations import read_annotations; cache.MIN_SIZE = 0; '
        'sys.stdin.readline(); p = cache.cached(Path(sys.argv[1]), read_annotations).persons; '
        'print(type(p).__name__, len(p), int(p.keypoints.sum()))'
    )
    command = [sys.executable, '-c', code, str(ann_file)]
    ready = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True, cwd=ROOT) for _ in range(4)]
    for process in ready:
        process.stdin.write('\n')
        process.stdin.flush()
    answers = {process.communicate(timeout=120)[0] for process in ready}
    total = int(read_annotations(ann_file).persons.keypoints.sum())
    assert answers == {f'MappedPersons 3000 {total}\n'}
    assert len(list(ann_file.parent.iterdir())) == 2
