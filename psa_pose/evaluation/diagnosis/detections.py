"""A file of predictions in COCO's keypoint result format as flat arrays, checked."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets import json_stream
from psa_pose.errors import ResultError
from psa_pose.evaluation.coco_ap import MAX_DETECTIONS
from psa_pose.evaluation.coco_oks import best_of_images
from psa_pose.evaluation.diagnosis.truth import GroundTruth


@dataclass(frozen=True)
class Detections:
    """D detections, sorted by image and in each by falling score: COCO's 20 best.

    Attributes:
        row: (D,) their places in the file, from 0.
        image_id: (D,).
        keypoints: (D, K, 2) in image pixels.
        score: (D,).
        beyond: how many more the file has, beyond the 20 best of their images.
    """

    row: np.ndarray
    image_id: np.ndarray
    keypoints: np.ndarray
    score: np.ndarray
    beyond: int

    def __len__(self) -> int:
        return len(self.row)


def read_results(path: Path, truth: GroundTruth) -> Detections:
    """Read a file of predictions, as `tools/test.py --out` writes it.

    Raises:
        ResultError: it cannot be read, is empty, or is not about this ground truth.
    """
    try:
        rows = json_stream.whole(path)
    except OSError as error:
        raise ResultError(f'results {path}: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f'results {path} is not JSON: {error}') from None
    return check_results(rows, truth, str(path))


def check_results(rows: Any, truth: GroundTruth, source: str) -> Detections:
    """Predictions in COCO's result format, from memory; `source` is for error messages.

    Raises:
        ResultError: see `read_results`.
    """
    if not isinstance(rows, list):
        raise ResultError(
            f"results {source}: expected a list of detections in COCO's result format, "
            f'found {type(rows).__name__}'
        )
    if not rows:
        raise ResultError(f'results {source}: an empty list, there is nothing to diagnose')
    for index, row in enumerate(rows):
        _check_row(row, truth, f'results {source}: detection {index}')
    known = set(truth.image_ids.tolist())
    strangers = [index for index, row in enumerate(rows) if row['image_id'] not in known]
    if strangers:
        raise ResultError(
            f'results {source}: detection {strangers[0]} is about image id '
            f'{rows[strangers[0]]["image_id"]}, which is not in {truth.path}; so are '
            f'{len(strangers)} of {len(rows)}: are they about other images?'
        )
    image_id = np.array([row['image_id'] for row in rows], np.int64)
    flat = _finite([row['keypoints'] for row in rows], 'keypoints', source)
    score = _finite([[row['score']] for row in rows], 'score', source)[:, 0]
    keypoints = flat.reshape(len(rows), -1, 3)[..., :2]
    _refuse_doubles(np.column_stack([image_id, score, flat]), source)
    best = best_of_images(image_id, score, MAX_DETECTIONS)
    beyond = len(rows) - len(best)
    return Detections(best, image_id[best], keypoints[best], score[best], beyond)


def _check_row(row: Any, truth: GroundTruth, where: str) -> None:
    names = ('image_id', 'category_id', 'keypoints', 'score')
    missing = [name for name in names if name not in row] if isinstance(row, dict) else names
    if missing:
        raise ResultError(f"{where} lacks {', '.join(missing)}: not in COCO's keypoint format")
    if row['category_id'] != truth.category:
        raise ResultError(
            f'{where} is of category {row["category_id"]!r}, but the persons of {truth.path} are '
            f'of category {truth.category}'
        )
    if not isinstance(row['image_id'], int):
        raise ResultError(f'{where}: image_id must be a whole number, got {row["image_id"]!r}')
    expected = 3 * truth.info.num_keypoints
    if not isinstance(row['keypoints'], list) or len(row['keypoints']) != expected:
        found = len(row['keypoints']) if isinstance(row['keypoints'], list) else row['keypoints']
        raise ResultError(
            f'{where} has {found} keypoint numbers, but {truth.path} has '
            f'{truth.info.num_keypoints} keypoints, which makes {expected}: '
            'are they predictions for another dataset?'
        )


def _finite(values: Sequence[Sequence[Any]], name: str, source: str) -> np.ndarray:
    """(D, N) of values that are as many in each row."""
    try:
        numbers = np.array(values, float)
    except (TypeError, ValueError, OverflowError):  # nested lists, words, integers beyond a float
        numbers = np.empty(0)
    if numbers.shape == (len(values), len(values[0])) and np.isfinite(numbers).all():
        return numbers
    index, value = next(
        (index, value)
        for index, row in enumerate(values)
        for value in row
        if not (isinstance(value, int | float) and abs(value) <= sys.float_info.max)
    )
    raise ResultError(
        f'results {source}: detection {index}: {name} must be finite, found {str(value)[:40]}'
    )


def _refuse_doubles(table: np.ndarray, source: str) -> None:
    first: dict[bytes, int] = {}
    twins = [(i, j) for i, row in enumerate(table) if (j := first.setdefault(row.tobytes(), i)) < i]
    if twins:
        later, earlier = twins[0]
        raise ResultError(
            f'results {source}: detections {earlier} and {later} are the same (image id '
            f'{int(table[later, 0])}), as are {len(twins)} of {len(table)} with earlier ones: '
            'has a file been joined to itself?'
        )
