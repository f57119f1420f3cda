"""MPII's official annotations (`mpii_human_pose_v1_u12_1.mat`) in the JSON layout of the field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets.mat_file import read_mat
from psa_pose.errors import DataError
from psa_pose.structures import MPII_KEYPOINTS

Entry = dict[str, Any]
_K = MPII_KEYPOINTS.num_keypoints
_SAME_JOINT = 0.5  # pixels


def read_official(path: Path) -> tuple[list[Entry], list[Entry]]:
    """Persons to train on and to test on, in the file's order.

    Of the training images those with a centre, a scale and at least one joint; of the test images,
    whose joints are not public, those with a centre and a scale. Coordinates count from 1, as in
    the file; a joint without a label stands at -1, -1.

    Raises:
        DataError: not this file.
    """
    release = read_mat(path, struct_as_record=False, squeeze_me=True).get('RELEASE')
    annolist, img_train = (getattr(release, name, None) for name in ('annolist', 'img_train'))
    if annolist is None or img_train is None:
        raise DataError(f"{path}: no struct 'RELEASE' with 'annolist' and 'img_train'")
    images, is_train = _list(annolist), np.atleast_1d(img_train)
    if len(images) != len(is_train):
        raise DataError(f'{path}: {len(images)} images, but img_train has {len(is_train)}')
    train: list[Entry] = []
    test: list[Entry] = []
    for image, trains in zip(images, is_train, strict=True):
        name = str(image.image.name)
        for rectangle in _list(getattr(image, 'annorect', [])):
            person = _person(rectangle)
            if person is None:
                continue
            joints = _joints(rectangle, f'{path}: {name}') if trains else {}
            if trains and not joints:
                continue
            (train if trains else test).append({'image': name, **person, **joints})
    return train, test


def split(train: list[Entry], truth: Path) -> tuple[list[Entry], list[Entry]] | None:
    """The field's split, found again by the validation persons' head boxes and joints.

    Args:
        train: from `read_official`.
        truth: the field's `mpii_gt_val.mat`.

    Returns:
        The persons to train on (no image of a validation person among them) and the validation
        persons in the order of `truth`; or None where not every one of them is found.
    """
    content = read_mat(truth)
    try:
        boxes = np.moveaxis(content['headboxes_src'], -1, 0).reshape(-1, 4)
        joints = np.moveaxis(content['pos_gt_src'], -1, 0)
        labelled = np.moveaxis(content['jnt_missing'], -1, 0) == 0
    except (KeyError, ValueError):
        raise DataError(f"{truth} is not the field's mpii_gt_val.mat") from None
    by_box: dict[tuple[int, ...], list[Entry]] = {}
    for entry in train:
        if 'headbox' in entry:
            by_box.setdefault(_rounded(entry['headbox']), []).append(entry)
    val = []
    for box, points, seen in zip(boxes, joints, labelled, strict=True):
        same = [e for e in by_box.get(_rounded(box), ()) if _agrees(e, points, seen)]
        if len(same) != 1:
            return None
        val.append(same[0])
    held_out = {entry['image'] for entry in val}
    return [entry for entry in train if entry['image'] not in held_out], val


def _rounded(box: Any) -> tuple[int, ...]:
    return tuple(np.round(box).astype(int).tolist())


def _agrees(entry: Entry, points: np.ndarray, seen: np.ndarray) -> bool:
    both = (np.array(entry['joints_vis']) > 0) & seen
    offset = np.abs(np.array(entry['joints']) - points)[both]
    return bool(both.any() and (offset <= _SAME_JOINT).all())


def _person(rectangle: Any) -> Entry | None:
    center = getattr(rectangle, 'objpos', None)
    numbers = [_number(getattr(center, axis, None)) for axis in 'xy']
    scale = _number(getattr(rectangle, 'scale', None))
    if None in numbers or scale is None or scale <= 0:
        return None
    head = [_number(getattr(rectangle, side, None)) for side in ('x1', 'y1', 'x2', 'y2')]
    known = None not in head and head[2] > head[0] and head[3] > head[1]  # type: ignore[operator]
    return {'center': numbers, 'scale': scale, **({'headbox': head} if known else {})}


def _joints(rectangle: Any, where: str) -> Entry:
    joints, labelled = np.full((_K, 2), -1.0), np.zeros(_K, int)
    for point in _points(rectangle):
        number, x, y = (_number(getattr(point, field, None)) for field in ('id', 'x', 'y'))
        if number is None or x is None or y is None or not 0 <= number < _K:
            raise DataError(f'{where}: a joint with id {number} at {x}, {y}; ids are 0 to {_K - 1}')
        joints[int(number)], labelled[int(number)] = (x, y), 1
    if not labelled.any():
        return {}
    return {'joints': joints.tolist(), 'joints_vis': labelled.tolist()}


def _points(rectangle: Any) -> Iterator[Any]:
    yield from _list(getattr(getattr(rectangle, 'annopoints', None), 'point', []))


def _list(value: Any) -> list[Any]:
    """MATLAB's struct arrays: none, one or many."""
    return list(np.ravel(value)) if isinstance(value, np.ndarray | list) else [value]


def _number(value: Any) -> float | None:
    """A finite number, or None for MATLAB's empty array."""
    if value is None or np.size(value) != 1:
        return None
    number = float(np.ravel(value)[0])
    return number if np.isfinite(number) else None
