"""MPII Human Pose (Andriluka et al. 2014) in the JSON layout of the field.

A list of `{image, center, scale, joints, joints_vis}`: the person's centre in pixels and height in
units of 200 pixels, 16 joints and whether each is labelled. Coordinates count from 1, as MATLAB's.
`joints` is absent where they are not public (the test images); `headbox`, x1, y1, x2, y2, is this
project's addition, written by `tools/prepare_data.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets import json_stream
from psa_pose.datasets.annotations import Persons, unreadable
from psa_pose.datasets.base import TopdownDataset
from psa_pose.datasets.persons import LARGEST, encoded
from psa_pose.errors import DataError
from psa_pose.registry import DATASETS
from psa_pose.structures import MPII_KEYPOINTS, KeypointInfo

PIXELS_PER_SCALE = 200
FIRST_PIXEL = 1  # MATLAB's first pixel is 1, ours is 0
LOWERED = 15  # the centre is lowered by this times the scale, lest feet be cut off
_K = MPII_KEYPOINTS.num_keypoints


@DATASETS.register_module()
class MpiiDataset(TopdownDataset):
    """MPII's persons, K = 16, framed as the field's published models frame them.

    The box is a square of 200 x `scale` pixels around the centre lowered by 15 x `scale`, then
    padded by 1.25; centre and joints lose 1 to count from 0 (Sun et al. 2019; MMPose leaves the
    joints as they are, one pixel off its own centres). A person without a centre (x is -1) is
    left out. Arguments are `TopdownDataset`'s.

    Attributes:
        entries: how many the file has; a person's `id` is its place among them, from 0.
        head_size: (P,) PCKh's unit in pixels, NaN where the file has no `headbox`.

    Raises:
        DataError: the file is missing or not in this layout; the entry at fault is named.
    """

    KEYPOINTS = MPII_KEYPOINTS
    boxes = "MPII's center and scale"

    def _read(self) -> tuple[KeypointInfo, Persons]:
        content = read_mpii_json(self.ann_file)
        self.entries = len(content)
        images: dict[str, int] = {}
        rows, head_sizes = [], []
        for number, entry in enumerate(content):
            where = f'{self.ann_file}: entry {number}'
            x, y = _numbers(entry, 'center', (2,), where)
            if x == -1:
                continue
            scale = float(_numbers(entry, 'scale', (), where))
            if scale <= 0:
                raise DataError(f'{where}: scale must be above 0, got {scale}')
            name = entry.get('image')
            if not isinstance(name, str) or not name:
                raise DataError(f"{where}: 'image' must be a file name, got {name!r}")
            center = np.array([x, y + LOWERED * scale]) - FIRST_PIXEL
            half = PIXELS_PER_SCALE * scale / 2
            image_id = images.setdefault(name, len(images))
            box = (*(center - half), *(center + half))
            rows.append((number, image_id, encoded(name, where), box, _keypoints(entry, where)))
            head_sizes.append(_head_size(entry, where))
        if not rows:
            raise DataError(f'{self.ann_file}: no usable person among {len(content)} entries')
        self.head_size = np.array(head_sizes)
        self.annotated = any('joints' in entry for entry in content)
        ids, image_ids, names, boxes, keypoints = zip(*rows, strict=True)
        return MPII_KEYPOINTS, Persons(
            id=np.array(ids, np.int64),
            image_id=np.array(image_ids, np.int64),
            image_size=np.zeros((len(rows), 2), np.int32),
            file_name=np.array(names),
            bbox=np.array(boxes, np.float32),
            box_score=np.ones(len(rows), np.float32),
            keypoints=np.stack(keypoints),
        )


def read_mpii_json(path: Path) -> list[dict[str, Any]]:
    """Read a file in the field's layout.

    Raises:
        DataError: missing, not JSON, or not a list of persons.
    """
    try:
        content = json_stream.whole(path)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    if isinstance(content, dict) and 'annotations' in content:
        raise DataError(f"{path} is in COCO's format: use type='CocoStyleDataset'")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DataError(f"{path} is not a list of persons, each with 'image', 'center', 'scale'")
    return content


def head_size(headbox: np.ndarray) -> np.ndarray:
    """PCKh's unit: 0.6 times the diagonal of head boxes (..., 4), x1, y1, x2, y2."""
    return 0.6 * np.hypot(headbox[..., 2] - headbox[..., 0], headbox[..., 3] - headbox[..., 1])


def _keypoints(entry: Mapping[str, Any], where: str) -> np.ndarray:
    """(K, 3) float32, from 0, with COCO's v; zeros where the joints are not public."""
    if 'joints' not in entry:
        return np.zeros((_K, 3), np.float32)
    joints = _numbers(entry, 'joints', (_K, 2), where) - FIRST_PIXEL
    labelled = _numbers(entry, 'joints_vis', (_K,), where) > 0
    visibility = np.where(labelled, 2, 0)
    return np.column_stack([joints * labelled[:, None], visibility]).astype(np.float32)


def _head_size(entry: Mapping[str, Any], where: str) -> float:
    if entry.get('headbox') is None:
        return np.nan
    size = float(head_size(_numbers(entry, 'headbox', (4,), where)))
    if size <= 0:
        raise DataError(f'{where}: headbox {entry["headbox"]} is empty')
    return size


def _numbers(entry: Mapping[str, Any], key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        numbers = np.asarray(entry.get(key), np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if numbers.shape != shape or not (np.abs(numbers) <= LARGEST).all():  # NaN is not
        expected = f'{" x ".join(map(str, shape))} finite numbers' if shape else 'a finite number'
        expected += f' up to {LARGEST:g}' if np.isfinite(numbers).all() else ''
        raise DataError(f"{where}: '{key}' must be {expected}, got {str(entry.get(key))[:80]}")
    return numbers
