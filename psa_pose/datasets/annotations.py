"""A COCO-style JSON as flat arrays: small, and shared by forked workers instead of copied."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.structures import KeypointInfo


@dataclass(frozen=True)
class Persons:
    """P persons of a file; row i of every array is person i.

    Attributes:
        id: (P,) int64, annotation ids.
        image_id: (P,) int64.
        image_size: (P, 2) int32, width and height in pixels; 0, 0 where the file does not say.
        file_name: (P,) fixed-width bytes, UTF-8, relative to the image root.
        bbox: (P, 4) float32, x1, y1, x2, y2 in image pixels, clipped to the image (a detector's
            boxes are as it gave them).
        box_score: (P,) float32, 1 for ground truth.
        keypoints: (P, K, 3) float32, x, y in image pixels and COCO's v (0, 1 or 2).
    """

    id: np.ndarray
    image_id: np.ndarray
    image_size: np.ndarray
    file_name: np.ndarray
    bbox: np.ndarray
    box_score: np.ndarray
    keypoints: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


LISTS = ('images', 'annotations', 'categories')


def read_json(path: Path, lists: Sequence[str] = LISTS) -> dict[str, Any]:
    """Read a COCO-style JSON file.

    Args:
        path: the file.
        lists: what it must have.

    Raises:
        DataError: missing, not JSON, without one of `lists`, or an id that occurs twice.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f'annotation file {path}: {error.strerror}') from None
    except ValueError as error:
        raise DataError(f'annotation file {path} is not JSON: {error}') from None
    for key in lists:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"annotation file {path} has no list '{key}': not in COCO's format")
    for key in ('images', 'annotations'):
        _check_unique(content.get(key, []), f'annotation file {path}: {key}')
    return content


def _check_unique(entries: list[Mapping[str, Any]], where: str) -> None:
    """Of two entries with one id, an evaluation would see one in both places."""
    seen: set[int] = set()
    for entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f'{where}: an entry that is no object: {entry}')
        number = entry.get('id')
        if isinstance(number, int):
            if number in seen:
                raise DataError(f'{where}: id {number} occurs twice')
            seen.add(number)


def keypoint_category(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The one category with keypoints.

    Raises:
        DataError: there is none, or more than one.
    """
    found = [c for c in content['categories'] if c.get('keypoints')]
    if len(found) != 1:
        names = [c.get('name') for c in content['categories']]
        raise DataError(
            f'{path}: expected one category with keypoints, found {len(found)} in {names}'
        )
    return found[0]


def person_category(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The category with keypoints, or 'person' where none has any (`image_info_test-dev2017.json`).

    Raises:
        DataError: there is neither.
    """
    persons = [c for c in content['categories'] if c.get('name') == 'person']
    if len(persons) == 1 and not any(c.get('keypoints') for c in content['categories']):
        return persons[0]
    return keypoint_category(content, path)


def read_keypoint_info(path: Path) -> KeypointInfo:
    """Names, skeleton and sigmas of an annotation file's category."""
    return KeypointInfo.from_category(keypoint_category(read_json(path), path), str(path))


def usable_persons(content: Mapping[str, Any], path: Path) -> Persons:
    """Persons with at least one labelled keypoint and a box inside their image; no crowds.

    Raises:
        DataError: an annotation that cannot be right (its id is named), or no usable person.
    """
    category = keypoint_category(content, path)
    images = {image.get('id'): image for image in content['images']}
    rows = []
    for annotation in content['annotations']:
        if annotation.get('category_id') != category['id'] or annotation.get('iscrowd', 0):
            continue
        row = _person(annotation, images, len(category['keypoints']), path)
        if row is not None:
            rows.append(row)
    if not rows:
        raise DataError(
            f'{path}: no usable person among {len(content["annotations"])} annotations: each is a '
            'crowd, has no labelled keypoint, or has no box inside its image'
        )
    return _stack(rows)


def _person(
    annotation: Mapping[str, Any], images: Mapping[Any, Any], num_keypoints: int, path: Path
) -> tuple[Any, ...] | None:
    if not isinstance(annotation.get('id'), int):
        raise DataError(f"{path}: an annotation without a whole number as 'id': {annotation}")
    where = f'{path}: annotation id {annotation["id"]}'
    flat = annotation.get('keypoints')
    if flat is None:
        return None
    if len(flat) != 3 * num_keypoints:
        raise DataError(
            f'{where}: {len(flat)} keypoint numbers, expected 3 x {num_keypoints} = '
            f'{3 * num_keypoints}'
        )
    keypoints = _numbers(flat)
    if keypoints is None:
        raise DataError(f'{where}: keypoints that are not finite numbers')
    if not (keypoints[2::3] > 0).any():
        return None
    image = images.get(annotation.get('image_id'))
    if image is None:
        raise DataError(f"{where}: its image_id {annotation.get('image_id')} is not among 'images'")
    missing = {'id', 'width', 'height', 'file_name'} - set(image)
    if missing:
        raise DataError(f'{where}: its image {image} lacks {sorted(missing)}')
    bbox = _clipped_box(annotation.get('bbox'), image, where)
    if bbox is None:
        return None
    size = (image['width'], image['height'])
    name = image['file_name'].encode()
    return annotation['id'], image['id'], size, name, bbox, 1.0, keypoints.reshape(-1, 3)


def _numbers(values: Any) -> np.ndarray | None:
    """Finite float32 numbers, or None where `values` are none."""
    try:
        numbers = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _clipped_box(bbox: Any, image: Mapping[str, Any], where: str) -> tuple[float, ...] | None:
    """x1, y1, x2, y2 inside the image, or None where nothing of the box is left."""
    if bbox is None:
        return None
    numbers = _numbers(bbox)
    if numbers is None or numbers.shape != (4,):
        raise DataError(
            f'{where}: bbox must be four finite numbers x, y, width, height, got {bbox}'
        )
    x, y, width, height = bbox
    right, bottom = image['width'] - 1, image['height'] - 1
    x1, y1 = min(max(x, 0), right), min(max(y, 0), bottom)
    x2, y2 = min(max(x + width, 0), right), min(max(y + height, 0), bottom)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _stack(rows: list[tuple[Any, ...]]) -> Persons:
    ids, image_ids, sizes, names, boxes, scores, keypoints = zip(*rows, strict=True)
    return Persons(
        id=np.array(ids, np.int64),
        image_id=np.array(image_ids, np.int64),
        image_size=np.array(sizes, np.int32),
        file_name=np.array(names),
        bbox=np.array(boxes, np.float32),
        box_score=np.array(scores, np.float32),
        keypoints=np.stack(keypoints),
    )
