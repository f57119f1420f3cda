"""A COCO-style ground truth as flat arrays, sorted by image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets.annotations import keypoint_category, read_json, usable_persons
from psa_pose.errors import DataError
from psa_pose.evaluation.coco_ap import read_truth
from psa_pose.evaluation.pairs import Labels
from psa_pose.structures import KeypointInfo


@dataclass(frozen=True)
class GroundTruth(Labels):
    """G persons and crowd regions of a file, in the file's order within each image, with `Labels`.

    Attributes:
        path: the file.
        info: names, mirror pairs and sigmas of its K keypoints.
        category: id of the category with keypoints.
        image_ids: all images, those without persons too, rising.
        id: (G,) annotation ids.
        image_id: (G,) rising.
        crowd: (G,) bool, regions that stand for many persons.
        ignored: (G,) bool, crowds and persons without keypoints: what COCO does not ask for.
    """

    path: Path
    info: KeypointInfo
    category: int
    image_ids: np.ndarray
    id: np.ndarray
    image_id: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray

    def __len__(self) -> int:
        return len(self.id)


def read_ground_truth(path: Path) -> GroundTruth:
    """Read a COCO-style JSON with keypoints.

    Raises:
        DataError: it cannot be read, an annotation cannot be right, or nobody has keypoints.
    """
    content = read_json(path)
    usable_persons(content, path)  # refuses what cannot be right, by annotation id
    info = KeypointInfo.from_category(keypoint_category(content, path), str(path))
    truth, category = read_truth(path, info.names)
    rows = [a for a in truth.dataset['annotations'] if a.get('category_id') == category]
    rows.sort(key=lambda row: row['image_id'])
    for row in rows:
        _check(row, truth.imgs, info.num_keypoints, path)
    ignored = [bool(row['iscrowd']) or not row['num_keypoints'] for row in rows]
    if all(ignored):
        raise DataError(f'{path}: none of its {len(rows)} persons has keypoints to evaluate')
    blank = [0] * (3 * info.num_keypoints)
    keypoints = np.array([row['keypoints'] or blank for row in rows], float)
    keypoints = keypoints.reshape(len(rows), -1, 3)
    return GroundTruth(
        path=path,
        info=info,
        category=category,
        image_ids=np.array(sorted(truth.imgs), np.int64),
        id=np.array([row['id'] for row in rows], np.int64),
        image_id=np.array([row['image_id'] for row in rows], np.int64),
        keypoints=keypoints[..., :2],
        labelled=keypoints[..., 2] > 0,
        bbox=np.array([row['bbox'] for row in rows], float),
        area=np.array([row.get('area') or 0 for row in rows], float),
        crowd=np.array([bool(row['iscrowd']) for row in rows]),
        ignored=np.array(ignored),
    )


def _check(row: dict[str, Any], images: dict[Any, Any], num_keypoints: int, path: Path) -> None:
    where = f'{path}: annotation id {row.get("id")}'
    if row.get('image_id') not in images:
        raise DataError(f"{where}: its image_id {row.get('image_id')} is not among 'images'")
    if len(row['keypoints']) not in (0, 3 * num_keypoints):
        raise DataError(
            f'{where}: {len(row["keypoints"])} keypoint numbers, expected 3 x {num_keypoints} = '
            f'{3 * num_keypoints}'
        )
    for name, length in (('keypoints', len(row['keypoints'])), ('bbox', 4)):
        try:
            numbers = np.array(row.get(name), float)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (length,) or not np.isfinite(numbers).all():
            raise DataError(f'{where}: {name} must be {length} finite numbers, got {row.get(name)}')
