"""Annotation files that lie: names outside the image root, values of any kind, without end."""

import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from psa_pose.datasets import CocoStyleDataset, MpiiDataset, json_stream
from psa_pose.datasets.annotations import Persons, read_annotations, read_json
from psa_pose.datasets.image_names import check_image_names
from psa_pose.errors import DataError
from tests.handmade import coco_content, image_entry, person_entry

JOINTS = [[float(i + 20), float(i + 30)] for i in range(16)]
MPII = [
    {
        'image': 'a.jpg',
        'center': [50.0, 60.0],
        'scale': 1.2,
        'joints': JOINTS,
        'joints_vis': [1] * 16,
        'headbox': [1, 2, 30, 40],
    }
]
COCO = coco_content()
DETECTIONS = [
    {
        'image_id': COCO['images'][0]['id'],
        'category_id': COCO['categories'][0]['id'],
        'bbox': [1, 2, 30, 40],
        'score': 0.5,
    }
]


def dataset_of(kind: str, root: Path, content: Any) -> Any:
    """A dataset of one file of `kind`; the other files are as they should be."""
    (root / 'images').mkdir(exist_ok=True)
    files = {'coco': COCO, 'mpii': MPII, 'detections': DETECTIONS, 'images': COCO, kind: content}
    if kind == 'images':
        files['coco'] = content
    for name, value in files.items():
        path = root / f'{name}.json'
        if value is content or not path.exists():
            path.write_text(json.dumps(value))
    options: dict[str, Any] = {
        'ann_file': 'mpii.json' if kind == 'mpii' else 'coco.json',
        'pipeline': [],
        'input_size': (96, 128),
        'data_root': str(root),
        'data_prefix': {'img': 'images'},
    }
    if kind == 'mpii':
        return MpiiDataset(**options)
    if kind in ('detections', 'images'):
        options['bbox_file'] = str(root / 'detections.json')
    return CocoStyleDataset(**options)


OUTSIDE = {
    '../secret.jpg': r"has a part '\.\.'",
    'a/../../secret.jpg': r"has a part '\.\.'",
    'a/..': r"has a part '\.\.'",
    '..\\secret.jpg': r"has a part '\.\.'",
    '/etc/passwd': 'is empty or absolute',
    'C:\\secret.jpg': 'is empty or absolute',
    '\\\\server\\secret.jpg': 'is empty or absolute',
    'a.jpg\0.png': 'has a NUL character',
    'half \ud800 a character.jpg': 'is not Unicode',
}
ROWS = {'coco': COCO, 'mpii': MPII, 'images': COCO}


@pytest.mark.parametrize('name', OUTSIDE)
@pytest.mark.parametrize('kind', ROWS)
def test_names_outside_the_image_root_are_refused(kind, name, tmp_path) -> None:
    content = copy.deepcopy(ROWS[kind])
    if kind == 'mpii':
        content.append({**MPII[0], 'image': name})
    else:
        content['images'][0]['file_name'] = name
    number = '1' if kind == 'mpii' else str(COCO['images'][0]['id'])
    with pytest.raises(DataError, match=OUTSIDE[name]) as caught:
        dataset_of(kind, tmp_path, content)
    file = 'mpii.json' if kind == 'mpii' else 'coco.json'
    assert str(tmp_path / file) in str(caught.value)
    assert number in str(caught.value)


@pytest.mark.parametrize(
    'name', ['a..b.jpg', '..a/b..', 'a/.../b.jpg', './a.jpg', '.a', 'bä/ß.jpg']
)
def test_names_inside_are_taken(name, tmp_path) -> None:
    content = copy.deepcopy(COCO)
    content['images'][0]['file_name'] = name
    assert dataset_of('coco', tmp_path, content).persons.file_name[0].decode() == name


def test_the_users_own_links_lead_anywhere(tmp_path) -> None:
    dataset_of('coco', tmp_path, COCO)
    (tmp_path / 'elsewhere.png').write_bytes(b'any')
    (tmp_path / 'images/link.png').symlink_to(tmp_path / 'elsewhere.png')
    content = copy.deepcopy(COCO)
    content['images'][0]['file_name'] = 'link.png'
    dataset = dataset_of('coco', tmp_path, content)
    assert dataset._raw(0)['img_path'].read_bytes() == b'any'


def test_all_of_coco_in_milliseconds() -> None:
    count = 150_000
    names = np.char.mod(b'%012d.jpg', np.arange(count))
    zeros = np.zeros(count)
    persons = Persons(np.arange(count), np.arange(count), zeros, names, zeros, zeros, zeros)
    start = time.process_time()
    check_image_names(persons, Path('some.json'), Path('images'))
    assert time.process_time() - start < 0.2  # 5 ms where nothing else runs
    names[count - 1] = b'../passwd'
    with pytest.raises(DataError, match=r'image id 149999 .*passwd'):
        check_image_names(persons, Path('some.json'), Path('images'))


STRANGE = [
    *(None, True, -1, 2**31, 2**64, 10**400, 1e308, -1e308, math.nan, math.inf, 0.5),
    *(
        '',
        'x',
        '../x',
        '\ud800',
        [],
        [[]],
        [None],
        ['x'],
        {},
        [1e308] * 4,
        [math.nan] * 4,
        [[1, 2]],
    ),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 3)):
            yield from places(value[key], (*path, key))  # of long lists the first will do


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    new = copy.copy(content)
    new[path[0]] = changed(content[path[0]], path[1:], value)
    return new


@pytest.mark.parametrize('kind', ['coco', 'images', 'mpii', 'detections'])
def test_any_value_anywhere_is_refused_in_words_or_does_no_harm(kind, tmp_path) -> None:
    content = {**ROWS, 'detections': DETECTIONS}[kind]
    refused = 0
    for path in places(content):
        for value in STRANGE:
            try:
                persons = dataset_of(kind, tmp_path, changed(content, path, value)).persons
            except DataError:
                refused += 1
            else:
                assert np.isfinite(persons.bbox).all(), (path, value)
                assert np.isfinite(persons.keypoints).all(), (path, value)
    assert refused > 100


def test_files_without_end_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / 'huge.json'
    with path.open('wb') as file:
        file.truncate(json_stream.MAX_BYTES + 1)  # sparse
    for read in (read_json, read_annotations):
        with pytest.raises(
            DataError, match=r'huge\.json is not JSON: 4096 MiB, and more than 4096'
        ):
            read(path)
    path.write_text('[' * 10**6)
    for read in (read_json, read_annotations):
        with pytest.raises(DataError, match=r'huge\.json is not JSON'):
            read(path)


def test_an_entry_without_end_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_stream, 'MAX_VALUE', 3000)
    monkeypatch.setattr(json_stream, 'WINDOW', 500)
    path = tmp_path / 'long.json'
    content = coco_content([person_entry(1, image_id=4)], [image_entry(4)])
    path.write_text(json.dumps({**content, 'info': 'x' * 1500}))
    assert len(read_annotations(path).persons) == 1
    path.write_text(json.dumps({'info': 'x' * 9000, **content}))
    with pytest.raises(DataError, match='A value of more than 3000 characters, or no JSON'):
        read_annotations(path)
