"""A small dataset that is as it should be, to be spoilt in one way at a time."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WIDTH, HEIGHT = 160, 120
NAMES = ['left_eye', 'right_eye', 'left_shoulder', 'right_shoulder', 'left_hip', 'right_hip']
CONFIG = """
_base_ = [
    'psa_pose::_base_/runtime/default.py',
    'psa_pose::_base_/schedules/adamw_cosine.py',
    'psa_pose::_base_/datasets/topdown.py',
    'psa_pose::_base_/models/hrnet_tiny.py',
]
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1.5)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    ann_file='train.json', data_prefix=dict(img='images/')))
val_dataloader = dict(num_workers=0, dataset=dict(
    ann_file='val.json', data_prefix=dict(img='images/')))
train_cfg = dict(max_epochs=2)
"""


def content(first: int, count: int) -> dict[str, Any]:
    """Persons who face the camera, one in an image each."""
    images, annotations = [], []
    for i in range(first, first + count):
        x, y = 40 + i % 20, 30 + i % 10
        low, high = ((x + 10, x), (x + 30, x - 20))
        points = [(low[0], y), (low[1], y), (high[0], y + 20), (high[1], y + 20)]
        points += [(x + 20, y + 60), (x - 10, y + 61 + i % 3)]
        flat = [float(value) for px, py in points for value in (px, py, 2)]
        box = [x - 25.0, y - 10.0, 60.0, 75.0]
        images.append({'id': i, 'file_name': f'{i}.jpg', 'width': WIDTH, 'height': HEIGHT})
        annotations.append(
            {
                'id': 1000 + i,
                'image_id': i,
                'category_id': 1,
                'iscrowd': 0,
                'keypoints': flat,
                'bbox': box,
                'area': 0.5 * box[2] * box[3],
            }
        )
    category = {
        'id': 1,
        'name': 'person',
        'keypoints': list(NAMES),
        'skeleton': [[1, 2], [3, 4], [3, 5], [4, 6], [1, 3]],
        'sigmas': [0.1] * 6,
    }
    return {'images': images, 'annotations': annotations, 'categories': [category]}


def write(root: Path, train: Any, val: Any = None) -> Path:
    """Write a dataset and its config; returns the config."""
    (root / 'images').mkdir(parents=True, exist_ok=True)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for i in range(50):
        if not (root / f'images/{i}.jpg').exists():
            cv2.imwrite(str(root / f'images/{i}.jpg'), picture)
    for name, part in (('train', train), ('val', content(40, 10) if val is None else val)):
        text = part if isinstance(part, str) else json.dumps(part)
        (root / f'{name}.json').write_text(text)
    (root / 'config.py').write_text(CONFIG)
    return root / 'config.py'
