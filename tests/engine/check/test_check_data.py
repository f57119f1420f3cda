# ruff: noqa: E501  (a table of faults, a line each)
"""Whatever is wrong with a dataset is found, named and told with a remedy; what is right is not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from psa_pose.engine.check.config import check_config
from psa_pose.engine.check.data import check_data
from psa_pose.engine.check.findings import Findings
from psa_pose.engine.check.images import check_images
from psa_pose.engine.check.keypoints import check_info, check_sides
from psa_pose.engine.check.mpii_sheet import read_mpii_sheet
from psa_pose.engine.check.persons import check_persons
from psa_pose.engine.check.sheet import read_sheet
from psa_pose.engine.config import load_config
from psa_pose.errors import DataError
from tests.engine.check.dataset import HEIGHT, WIDTH, content, write

Spoil = Callable[[dict[str, Any]], Any]


def told(root: Path, *options: str) -> list[str]:
    cfg = load_config(root / 'config.py', options)
    cfg.work_dir = str(root / 'run')
    findings = Findings()
    check_data(cfg, findings)
    return [str(finding) for finding in findings]


def each(change: Callable[[dict[str, Any]], Any], count: int | None = None) -> Spoil:
    """Change annotations, the first `count`."""

    def spoil(dataset: dict[str, Any]) -> None:
        for entry in dataset['annotations'][:count]:
            change(entry)

    return spoil


def scaled(entry: dict[str, Any], factors: tuple[float, float, float]) -> None:
    points = np.array(entry['keypoints']).reshape(-1, 3)
    entry['keypoints'] = (points * factors).ravel().tolist()


def corners(entry: dict[str, Any]) -> None:
    x, y, width, height = entry['bbox']
    entry['bbox'] = [x + 40, y + 40, x + 40 + width, y + 40 + height]
    points = np.array(entry['keypoints']).reshape(-1, 3) + np.array([40, 40, 0])
    entry['keypoints'] = points.ravel().tolist()


def swap(entry: dict[str, Any], *places: tuple[int, int]) -> None:
    points = np.array(entry['keypoints']).reshape(-1, 3)
    for i, j in places:
        points[[i, j]] = points[[j, i]]
    entry['keypoints'] = points.ravel().tolist()


def category(**changes: Any) -> Spoil:
    return lambda dataset: dataset['categories'][0].update(changes)


NO_JSON = '{"images": ['
SPOILT: list[tuple[Spoil, str, str]] = [
    # what a run stops at
    (each(lambda a: a.update(id=7), 3), 'error', 'annotations: 2 with an id that another has (7, 7)'),
    (lambda d: d['images'][1].update(id=0), 'error', 'images: 1 with an id that another has (0)'),
    (each(lambda a: a.update(image_id=999), 2), 'error', 'annotations: 2 with an image_id that is not'),
    (each(lambda a: a.pop('id'), 1), 'error', 'annotations: 1 with no id (place 0)'),
    (each(lambda a: a.update(bbox=[1, 2, 3]), 1), 'error', 'a bbox that is not four finite numbers'),
    (each(lambda a: a.update(bbox=[1, 2, 3, float('nan')]), 1), 'error', 'four finite numbers (1000)'),
    (each(lambda a: a['keypoints'].pop(), 1), 'error', '1 with 17 keypoint numbers instead of 3 x 6'),
    (each(lambda a: a.update(keypoints='none'), 1), 'error', 'no list of finite numbers (1000)'),
    (lambda d: d['images'][3].pop('width'), 'error', 'images: 1 with no width or height (3)'),
    (lambda d: d['images'][3].pop('file_name'), 'error', 'images: 1 with no id or file_name (place 3)'),
    (lambda d: d.update(annotations=[]), 'error', "no person of category 'person'"),
    (lambda d: d.pop('categories'), 'error', "has no list 'categories'"),
    (lambda d: d['categories'].append({**d['categories'][0], 'id': 2}), 'error', 'found 2 in'),
    (category(keypoints=[]), 'error', 'expected one category with keypoints, found 0'),
    (category(keypoints=['a'] * 6), 'error', 'keypoint names occur twice'),
    (category(skeleton=[[1, 9]]), 'error', 'skeleton names a keypoint outside 1..6'),
    (category(sigmas=[0.1]), 'error', 'expected 6 positive sigmas'),
    (lambda d: d['images'][0].update(file_name='../0.jpg'), 'error', "1 file names of images: each has a part '..' ('../0.jpg')"),
    (lambda d: NO_JSON, 'error', 'is not JSON'),
    (lambda d: d['images'][5].update(file_name='5.JPG'), 'error', '1 of 40 images are not in'),
    (lambda d: d['images'][5].update(file_name='5.JPG'), 'error', 'there is 5.jpg: the annotations'),
    (lambda d: [i.update(width=200) for i in d['images']], 'error', 'annotated as 200x120'),
    (
        lambda d: [i.update(width=HEIGHT, height=WIDTH) for i in d['images']],
        'error',
        'EXIF orientation is ignored here',
    ),
    # what makes numbers wrong
    (each(lambda a: scaled(a, (1 / WIDTH, 1 / HEIGHT, 1))), 'error', 'lie between 0 and 1'),
    (each(corners), 'error', 'boxes look like x1, y1, x2, y2'),
    (each(lambda a: a.update(bbox=[0, 100, 15, 15])), 'error', '100% of the persons have keypoints far'),
    (each(lambda a: a.update(bbox=[0, 100, 15, 15]), 5), 'warning', 'persons: 5 of 40 with keypoints further'),
    (each(lambda a: a.update(bbox=[5, 5, 0, 10]), 2), 'warning', 'persons: 2 of 40 with an empty box'),
    (each(lambda a: a.update(bbox=[500, 5, 9, 9]), 2), 'warning', 'persons: 2 of 40 with a box outside'),
    (each(lambda a: a.pop('bbox'), 2), 'warning', 'persons: 2 of 40 with no bbox'),
    (each(lambda a: a.update(area=90000), 9), 'warning', '22% of the areas are no area of their box'),
    (each(lambda a: a.pop('area')), 'note', '40 images, 40 persons'),  # training needs none
    (each(lambda a: scaled(a, (1, 1, 3)), 1), 'warning', 'visibility flags other than 0, 1 and 2'),
    (each(lambda a: scaled(a, (0, 0, 1)), 4), 'warning', 'labelled and lies at 0, 0'),
    (each(lambda a: a.update(keypoints=[50, 50, 2] * 6), 4), 'warning', 'all keypoints at one'),
    (each(lambda a: a.update(keypoints=[300, 50, 2] * 6), 4), 'warning', 'labelled keypoints outside the image'),
    (each(lambda a: scaled(a, (1, 1, 0)), 38), 'warning', '38 of them (95%) without a labelled'),
    (each(lambda a: scaled(a, (1, 1, 0))), 'error', 'there is nothing to train on'),
    (lambda d: d['annotations'].append({**d['annotations'][0], 'id': 5}), 'warning', 'persons: 1 with the image and'),
    (each(lambda a: swap(a, (2, 3))), 'warning', "'left_shoulder' and its right one lie the other way"),
    (each(lambda a: swap(a, (0, 1), (2, 3), (4, 5))), 'warning', "the left eye is on the picture's left"),
    (each(lambda a: a['keypoints'].__setitem__(2, 0)), 'warning', 'left_eye: labelled on nobody'),
    (category(keypoints=['eye', 'right_eye', 'a', 'b', 'c', 'd']), 'warning', 'right_eye: no keypoint of the'),
    (category(keypoints=['l1', 'r1', 'l2', 'r2', 'a', 'b']), 'warning', "no keypoints are named 'left'"),
    (lambda d: d['images'].append({**d['images'][0], 'id': 99, 'file_name': '40.jpg'}), 'note', '1 images without'),
    (lambda d: d['annotations'][0].update(image_id=39, iscrowd=1), 'note', '1 crowds'),
    (lambda d: d['annotations'][0].update(category_id=9), 'note', '1 of other categories'),
    (lambda d: d['categories'][0].pop('sigmas'), 'note', 'has no sigmas'),
    (lambda d: d['categories'][0].pop('skeleton'), 'note', 'has no skeleton'),
    (category(skeleton=[[1, 2]]), 'note', 'the skeleton leaves out left_shoulder'),
    (lambda d: (d['images'].__delitem__(slice(1, None)), d['annotations'].__delitem__(slice(1, None))),
     'error', 'a batch of 2 is larger than the dataset of 1'),
]  # fmt: skip


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('data')


def test_nothing_is_found_where_all_is_well(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write(root, content(0, 40))
    assert told(root) == [
        'note     train.json: 40 images, 40 persons, all with labelled keypoints',
        'note     val.json: 10 images, 10 persons, all with labelled keypoints',
    ]


@pytest.mark.parametrize(('spoil', 'level', 'text'), SPOILT, ids=[text for _, _, text in SPOILT])
def test_what_is_spoilt_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, level: str, text: str
) -> None:
    monkeypatch.chdir(root)
    dataset = content(0, 40)
    changed = spoil(dataset)
    val = content(40, 10)
    if level != 'error':
        val['categories'] = dataset['categories']
    write(root, changed if changed == NO_JSON else dataset, val)
    lines = told(root)
    assert any(line.startswith(level) and text in line for line in lines), lines
    assert level == 'error' or not any(line.startswith('error') for line in lines), lines
    assert any('val.json: 10 images' in line for line in lines), lines  # it went on


def test_several_faults_come_together(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    dataset, val = content(0, 40), content(35, 10)
    dataset['annotations'][0]['bbox'] = None
    dataset['annotations'][1]['bbox'] = 'box'
    dataset['images'][2]['id'] = 3
    del val['annotations'][0]['area']
    val['categories'][0]['keypoints'] = [f'{name}_2' for name in val['categories'][0]['keypoints']]
    write(root, dataset, val)
    lines = '\n'.join(told(root))
    assert 'annotations: 1 with a bbox that is not four finite numbers (1001)' in lines
    assert 'images: 1 with an id that another has (3)' in lines
    assert 'annotations: 1 with an image_id that is not among the images (1002)' in lines
    assert '2 of 39 with no bbox, though keypoints are labelled (annotations 1000, 1001)' in lines
    assert 'val_dataloader.dataset: K = 6, train_dataloader has 6: left_eye, right_eye' in lines
    assert 'val_dataloader.dataset: 5 of its images are trained on' in lines
    assert 'val.json: annotation id 1035' in lines  # OKS needs its area
    assert lines.count('error') == 5


def test_missing_files_and_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write(root, content(0, 40))
    lines = told(
        root,
        'train_dataloader.dataset.ann_file=nowhere.json',
        'val_dataloader.dataset.data_prefix.img=nowhere',
    )
    assert lines[0].startswith(
        'error    train_dataloader.dataset.ann_file: nowhere.json is no file'
    )
    assert 'error    val_dataloader.dataset.data_prefix.img: nowhere is no folder' in lines
    lines = told(root, 'train_dataloader.dataset.data_prefix.img=.')
    assert '40 of 40 images are not in .' in lines[1]
    assert '0.jpg is in images: is data_root or data_prefix.img right?' in lines[1]


def test_images_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content(0, 40))
    file = tmp_path / 'images/0.jpg'
    file.write_bytes(file.read_bytes()[:-40])
    lines = told(tmp_path)
    assert '1 of 32 images looked at cannot be read: image images/0.jpg is truncated' in lines[1]
    assert lines[1].startswith('error') and "on_error='skip'" in lines[1]
    lines = told(tmp_path, 'train_dataloader.dataset.on_error=skip')
    assert lines[1].startswith('warning') and not any(x.startswith('error') for x in lines)


def test_an_evaluation_needs_something_to_measure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    write(root, content(0, 40))
    boxes = [
        {'image_id': i, 'category_id': 1, 'bbox': [9, 9, 50, 50], 'score': 1} for i in (40, 99)
    ]
    (root / 'boxes.json').write_text(json.dumps(boxes[:1]))
    assert not [x for x in told(root, 'val_dataloader.dataset.bbox_file=boxes.json') if x[0] == 'e']
    (root / 'boxes.json').write_text(json.dumps(boxes))
    lines = told(root, 'val_dataloader.dataset.bbox_file=boxes.json')
    assert any('image id 99 (entry 1) is not in val.json' in line for line in lines)
    (root / 'boxes.json').write_text(json.dumps([{**boxes[0], 'image_id': 0}] * 4))
    lines = told(root, 'train_dataloader.dataset.bbox_file=boxes.json')
    assert any(x.startswith('error') and 'train_dataloader' in x for x in lines), lines
    val = content(40, 10)
    del val['annotations']
    write(root, content(0, 40), val)
    lines = told(root)
    assert any("val.json: no person of category 'person'" in x for x in lines), lines
    (root / 'boxes.json').write_text(json.dumps(boxes[:1]))
    lines = told(root, 'val_dataloader.dataset.bbox_file=boxes.json')
    assert any('val.json has no annotations' in x and x.startswith('error') for x in lines), lines


def test_random_transforms_in_an_evaluation(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write(root, content(0, 40))
    pipeline = '[dict(type="LoadImage"), dict(type="RandomFlip"), dict(type="TopdownAffine")]'
    lines = told(root, f'val_dataloader.dataset.pipeline={pipeline}')
    assert any("RandomFlip is random, and has no place in an evaluation's" in x for x in lines)
    lines = told(root, 'train_dataloader.dataset.pipeline=[dict(type="LoadImage")]')
    assert any(x.startswith('error    train_dataloader.dataset') for x in lines), lines


@pytest.mark.parametrize(
    'name',
    [
        'lspet/annotations/lspet_train.json',
        'lspet/annotations/lspet_dev.json',
        'coco_mini/annotations/person_keypoints_train.json',
        'coco_mini/annotations/person_keypoints_dev.json',
        'mpii/annotations/mpii_five.json',
    ],
)
def test_real_annotations_raise_no_alarm(shared_data: Path, name: str) -> None:
    path = shared_data / name
    sheet = (read_mpii_sheet if 'mpii' in name else read_sheet)(path)
    findings = Findings()
    check_persons(sheet, name, findings)
    info = check_info(sheet, name, findings)
    assert info is not None
    check_sides(sheet, info, name, findings)
    assert not [str(f) for f in findings if f.level != 'note']


def test_swapped_columns_of_real_people(shared_data: Path) -> None:
    sheet = read_sheet(shared_data / 'lspet/annotations/lspet_train.json')
    info = check_info(sheet, '', Findings())
    assert info is not None
    for name in ('shoulder', 'hip', 'knee'):
        pair = [info.names.index(f'{side}_{name}') for side in ('left', 'right')]
        findings = Findings()
        sheet.keypoints[:, pair] = sheet.keypoints[:, pair[::-1]]
        check_sides(sheet, info, '', findings)
        sheet.keypoints[:, pair] = sheet.keypoints[:, pair[::-1]]
        assert len(findings) == 1 and f"'left_{name}'" in str(findings[0])


def test_mpii_in_a_config(shared_data: Path, tmp_path: Path) -> None:
    entries = json.loads((shared_data / 'mpii/annotations/mpii_five.json').read_text())
    entries[1]['image'] = 'nowhere.jpg'
    (tmp_path / 'mpii.json').write_text(json.dumps(entries))
    options = [
        f'{loader}.dataset.{key}={value}'
        for loader in ('train_dataloader', 'val_dataloader')
        for key, value in (
            ('ann_file', tmp_path / 'mpii.json'),
            ('data_root', shared_data / 'mpii'),
        )
    ]
    cfg = load_config('mpii/hrnet_w32_256x256.py', options)
    cfg.work_dir = str(tmp_path)
    findings = Findings()
    check_config(cfg, findings)
    check_data(cfg, findings)
    lines = [str(finding) for finding in findings]
    assert any('5 images, 5 persons, all with labelled keypoints' in line for line in lines)
    assert any('1 of 5 images are not in' in line and 'nowhere.jpg' in line for line in lines)
    entries[0]['joints'] = entries[0]['joints'][:3]
    (tmp_path / 'mpii.json').write_text(json.dumps(entries))
    assert any(
        'entries: 1 with no center, scale, image or 16 joints (0)' in str(f) for f in _data(cfg)
    ), _data(cfg)


def _data(cfg: Any) -> Findings:
    findings = Findings()
    check_data(cfg, findings)
    return findings


def test_an_image_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content(0, 40))
    cv2.imwrite('images/0.png', np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    dataset = content(0, 40)
    dataset['images'][0]['file_name'] = 'images/0.jpg'
    write(tmp_path, dataset)
    assert '0.jpg is in images, but the annotations call it images/0.jpg' in '\n'.join(
        told(tmp_path)
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


@pytest.mark.parametrize('value', [None, True, 'x', [], {}, 2**70, float('nan'), '\ud800'])
def test_no_value_anywhere_makes_it_fall_over(tmp_path: Path, value: Any) -> None:
    good, path, silent = json.dumps(content(0, 4)), tmp_path / 'a.json', 0
    for place in places(json.loads(good)):
        spoilt = inner = json.loads(good)
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        path.write_text(json.dumps(spoilt))
        findings = Findings()
        try:
            sheet = read_sheet(path)
        except DataError:
            continue
        check_persons(sheet, '', findings)
        info = check_info(sheet, '', findings)
        if info is not None and len(sheet.id):
            check_sides(sheet, info, '', findings)
            check_images(sheet, tmp_path, '', findings)
        silent += not findings
    assert silent == 0  # the images are missing, if nothing else
