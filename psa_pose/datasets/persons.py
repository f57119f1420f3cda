"""Persons that can be used, from the entries of a COCO-style JSON: flat arrays, and strict."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError

IMAGE_FIELDS = ('id', 'width', 'height', 'file_name')
LARGEST = 1e9  # of a coordinate or score; squared it still is a float32


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


def keypoint_category(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The one category with keypoints.

    Raises:
        DataError: there is none, or more than one.
    """
    categories = _categories(content, path)
    found = [c for c in categories if c.get('keypoints')]
    if len(found) != 1:
        names = [c.get('name') for c in categories]
        raise DataError(
            f'{path}: expected one category with keypoints, found {len(found)} in {names}'
        )
    return found[0]


def person_category(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The category with keypoints, or 'person' where none has any (`image_info_test-dev2017.json`).

    Raises:
        DataError: there is neither.
    """
    categories = _categories(content, path)
    persons = [c for c in categories if c.get('name') == 'person']
    if len(persons) == 1 and not any(c.get('keypoints') for c in categories):
        return persons[0]
    return keypoint_category(content, path)


def _categories(content: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    for category in content['categories']:
        if not isinstance(category, dict) or not _is_int64(category.get('id')):
            raise DataError(
                f"{path}: categories: expected objects with a whole number as 'id', got "
                f'{str(category)[:80]}'
            )
    return content['categories']


def usable_persons(content: Mapping[str, Any], path: Path) -> Persons:
    """Persons with at least one labelled keypoint and a box inside their image; no crowds.

    Raises:
        DataError: an annotation that cannot be right (its id is named), or no usable person.
    """
    category = keypoint_category(content, path)
    images = {image.get('id'): image for image in content['images']}
    num_keypoints = len(category['keypoints'])
    ids, image_ids, sizes = array('q'), array('q'), array('i')
    boxes, keypoints, names = array('f'), array('f'), []
    for annotation in content['annotations']:
        if annotation.get('category_id') != category['id'] or annotation.get('iscrowd', 0):
            continue
        where = _name(annotation, path)
        points = _labelled_keypoints(annotation, num_keypoints, where)
        if points is None:
            continue
        image = _image(annotation, images, where)
        box = _clipped_box(annotation.get('bbox'), image, where)
        if box is None:
            continue
        ids.append(annotation['id'])
        image_ids.append(image['id'])
        sizes.extend((int(image['width']), int(image['height'])))
        names.append(encoded(image['file_name'], where))
        boxes.extend(box)
        keypoints.extend(points)
    if not ids:
        raise DataError(
            f'{path}: no usable person among {len(content["annotations"])} annotations: each is a '
            'crowd, has no labelled keypoint, or has no box inside its image'
        )
    return Persons(
        id=np.frombuffer(ids, np.int64),
        image_id=np.frombuffer(image_ids, np.int64),
        image_size=np.frombuffer(sizes, np.int32).reshape(-1, 2),
        file_name=np.array(names),
        bbox=np.frombuffer(boxes, np.float32).reshape(-1, 4),
        box_score=np.ones(len(ids), np.float32),
        keypoints=np.frombuffer(keypoints, np.float32).reshape(-1, num_keypoints, 3),
    )


def _name(annotation: Mapping[str, Any], path: Path) -> str:
    if not _is_int64(annotation.get('id')):
        raise DataError(f"{path}: an annotation without a whole number as 'id': {annotation}")
    return f'{path}: annotation id {annotation["id"]}'


def _labelled_keypoints(
    annotation: Mapping[str, Any], num_keypoints: int, where: str
) -> 'array[float] | None':
    """3K numbers, or None where no keypoint is labelled."""
    flat = annotation.get('keypoints')
    if flat is None:
        return None
    if not isinstance(flat, list):
        raise DataError(f'{where}: keypoints must be a list of numbers, got {flat!r}')
    if len(flat) != 3 * num_keypoints:
        raise DataError(
            f'{where}: {len(flat)} keypoint numbers, expected 3 x {num_keypoints} = '
            f'{3 * num_keypoints}'
        )
    points = _numbers(flat)
    if points is None:
        raise DataError(f'{where}: keypoints that are not finite numbers')
    return points if max(points[2::3]) > 0 else None


def _image(
    annotation: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]], where: str
) -> Mapping[str, Any]:
    number = annotation.get('image_id')
    image = images.get(number) if isinstance(number, int) else None
    if image is None:
        raise DataError(f"{where}: its image_id {number!r} is not among 'images'")
    check_image(image, f'{where}: its image')
    return image


def check_image(image: Mapping[str, Any], where: str) -> None:
    """Refuse an entry of `images` that lacks a field, or has another kind of value in it."""
    missing = set(IMAGE_FIELDS) - set(image)
    if missing:
        raise DataError(f'{where} {image} lacks {sorted(missing)}')
    if not (
        _is_int64(image['id'])
        and _is_size(image['width'])
        and _is_size(image['height'])
        and isinstance(image['file_name'], str)
    ):
        raise DataError(
            f'{where} {image}: expected whole numbers as id, width and height, and a text as '
            'file_name'
        )


def encoded(file_name: str, where: str) -> bytes:
    """UTF-8; JSON's escapes can spell halves of characters, which no file is called."""
    try:
        return file_name.encode()
    except UnicodeEncodeError:
        raise DataError(f'{where}: the file name {file_name!r} is not Unicode') from None


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < 2**31 and value == int(value)


def _numbers(values: Any) -> 'array[float] | None':
    """Finite float32 numbers, or None where `values` are none."""
    try:
        numbers = array('f', values)
    except (TypeError, OverflowError):
        return None
    return numbers if isfinite(sum(numbers)) else None


def _clipped_box(bbox: Any, image: Mapping[str, Any], where: str) -> tuple[float, ...] | None:
    """x1, y1, x2, y2 inside the image, or None where nothing of the box is left."""
    if bbox is None:
        return None
    numbers = _numbers(bbox) if isinstance(bbox, list) else None
    if numbers is None or len(numbers) != 4:
        raise DataError(
            f'{where}: bbox must be four finite numbers x, y, width, height, got {bbox}'
        )
    x, y, width, height = bbox
    right, bottom = image['width'] - 1, image['height'] - 1
    x1, y1 = min(max(x, 0), right), min(max(y, 0), bottom)
    x2, y2 = min(max(x + width, 0), right), min(max(y + height, 0), bottom)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
