"""COCO-style files made by hand: small, and right by construction."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NAMES = ('head', 'left_hand', 'right_hand', 'left_foot', 'right_foot')
CATEGORY = {'id': 7, 'name': 'person', 'keypoints': list(NAMES), 'skeleton': [[1, 2], [1, 3]]}
KEYPOINTS = [50, 20, 2, 30, 40, 1, 70, 40, 2, 0, 0, 0, 60, 70, 2]
IMAGE_SIZE = (120, 90)
COARSE_WARP = cv2.__version__.startswith('4.')
"""Positions are rounded to 1/32 pixel: up to 4 of 255 levels in each direction."""


def image_entry(image_id: int = 1, **changes: Any) -> dict[str, Any]:
    width, height = IMAGE_SIZE
    entry = {'id': image_id, 'file_name': f'{image_id}.png', 'width': width, 'height': height}
    return {**entry, **changes}


def person_entry(annotation_id: int = 1, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    entry = {
        'id': annotation_id,
        'image_id': image_id,
        'category_id': CATEGORY['id'],
        'bbox': [20, 10, 60, 70],
        'area': 2000.0,
        'keypoints': KEYPOINTS,
        'num_keypoints': 4,
        'iscrowd': 0,
    }
    return {**entry, **changes}


def coco_content(
    persons: Sequence[dict[str, Any]] | None = None,
    images: Sequence[dict[str, Any]] | None = None,
    categories: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    persons = [person_entry()] if persons is None else list(persons)
    if images is None:
        images = [image_entry(i) for i in sorted({p['image_id'] for p in persons})]
    return {
        'images': list(images),
        'annotations': persons,
        'categories': [CATEGORY] if categories is None else list(categories),
    }


def picture(seed: int = 0, size: tuple[int, int] = IMAGE_SIZE) -> np.ndarray:
    """A smooth random RGB picture, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)


def write_dataset(root: Path, content: dict[str, Any]) -> Path:
    """Write `annotations.json` and a picture for each image entry; returns the JSON."""
    for image in content['images']:
        path = root / image['file_name']
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(image['id'])[..., ::-1])
    ann_file = root / 'annotations.json'
    ann_file.write_text(json.dumps(content))
    return ann_file
