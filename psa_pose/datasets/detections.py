"""A detector's person boxes, from a JSON in COCO's result format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets import json_stream
from psa_pose.datasets.persons import LARGEST, Persons, check_image, encoded
from psa_pose.errors import DataError

FIELDS = ('image_id', 'category_id', 'bbox', 'score')


@dataclass(frozen=True)
class Detections:
    """Boxes to look for a person in, and what of their file was left out.

    Attributes:
        persons: one for each box; `id` is its row in the file (from 0), no keypoint is labelled,
            and a box that reaches over the image's edge stays as it is, as in the field.
        skipped: how many were left out, by reason.
        source: file, count and threshold, for titles.
    """

    persons: Persons
    skipped: Mapping[str, int]
    source: str


def read_detections(
    path: Path,
    content: Mapping[str, Any],
    ann_file: Path,
    category_id: int,
    num_keypoints: int,
    score_thr: float = 0.0,
) -> Detections:
    """Read the boxes of persons.

    Args:
        path: a JSON list of `image_id`, `category_id`, `bbox` (x, y, width, height in pixels) and
            `score`.
        content: of `ann_file`, whose `images` the boxes are about.
        ann_file: for error messages.
        category_id: of persons; other categories are skipped.
        num_keypoints: K.
        score_thr: boxes with a score above stay.

    Raises:
        DataError: missing, not such a list, an image that `ann_file` lacks, a box or score that is
            no finite number (its entry is named), or no box is left.
    """
    entries = _read_list(path)
    if not entries:
        raise DataError(f'detections {path}: an empty list, there is no box to look into')
    rows = [i for i, entry in enumerate(entries) if entry['category_id'] == category_id]
    skipped = {'of other categories': len(entries) - len(rows)}
    image_of = _image_indices([entries[i]['image_id'] for i in rows], rows, content, path, ann_file)
    size, names, ids = _images(content, set(image_of.tolist()), ann_file)
    xywh = _numbers(entries, rows, 'bbox', (4,), path)
    score = _numbers(entries, rows, 'score', (), path)
    bbox = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).astype(np.float32)

    keep = np.ones(len(rows), bool)

    def leave_out(reason: str, which: np.ndarray) -> None:
        skipped[reason] = int((keep & which).sum())
        keep[which] = False

    leave_out('of zero size', _is_empty(bbox))
    inside = np.clip(bbox, 0, np.tile(size[image_of] - 1, 2))
    leave_out('outside their image', _is_empty(inside))
    leave_out(f'with a score not above {score_thr}', score <= score_thr)
    leave_out('doubles (same image, same box)', ~_best_of_doubles(image_of, xywh, score))
    skipped = {reason: count for reason, count in skipped.items() if count}
    if not keep.any():
        raise DataError(f'{path}: no box is left of {len(entries)}: {describe(skipped)}')
    kept = image_of[keep]
    persons = Persons(
        id=np.array(rows, np.int64)[keep],
        image_id=ids[kept],
        image_size=size[kept],
        file_name=names[kept],
        bbox=bbox[keep],
        box_score=score[keep].astype(np.float32),
        keypoints=np.zeros((len(kept), num_keypoints, 3), np.float32),
    )
    count = f'{len(kept)} of {len(entries)}' if skipped else str(len(kept))
    source = f'detections {path.name} ({count}, score > {score_thr})'
    return Detections(persons, skipped, source)


def describe(skipped: Mapping[str, int]) -> str:
    """What was left out, as text; empty where nothing was."""
    return ', '.join(f'{count} {reason}' for reason, count in skipped.items())


def _read_list(path: Path) -> list[Mapping[str, Any]]:
    try:
        entries = json_stream.whole(path)
    except OSError as error:
        raise DataError(f'detections {path}: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise DataError(f'detections {path} are not JSON: {error}') from None
    if not isinstance(entries, list):
        raise DataError(
            f"detections {path}: expected a list of {FIELDS} (COCO's result format), found "
            f'{"an object with " + str(list(entries)) if isinstance(entries, dict) else entries}'
        )
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or any(field not in entry for field in FIELDS):
            raise DataError(f'{path}: entry {i} is no detection with {FIELDS}: {entry}')
    return entries


def _image_indices(
    image_ids: Sequence[Any],
    rows: Sequence[int],
    content: Mapping[str, Any],
    path: Path,
    ann_file: Path,
) -> np.ndarray:
    """(D,) where the image of each detection stands among the file's `images`."""
    index = {image.get('id'): i for i, image in enumerate(content['images'])}
    try:
        found = np.array([index.get(image_id, -1) for image_id in image_ids], np.int64)
    except TypeError:
        raise DataError(f'{path}: an image_id that is no number') from None
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        raise DataError(
            f'{path}: image id {image_ids[unknown[0]]} (entry {rows[unknown[0]]}) is not in '
            f'{ann_file}, and so for {len(unknown)} of {len(rows)} detections of persons: do the '
            'two files belong together?'
        )
    return found


def _images(
    content: Mapping[str, Any], used: set[int], ann_file: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(I, 2) width and height, (I,) names and (I,) ids of images; blank where not `used`."""
    size = np.zeros((len(content['images']), 2), np.int32)
    names, ids = [b''] * len(size), np.zeros(len(size), np.int64)
    for i in used:
        image = content['images'][i]
        check_image(image, f'{ann_file}: image')
        size[i] = image['width'], image['height']
        names[i], ids[i] = encoded(image['file_name'], f'{ann_file}: image {image}'), image['id']
    return size, np.array(names or [b'']), ids


def _numbers(
    entries: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    field: str,
    shape: tuple[int, ...],
    path: Path,
) -> np.ndarray:
    """(D, *shape) float64; the error names the first entry that is not such numbers."""
    values = [entries[i][field] for i in rows]
    unusable = (TypeError, ValueError, OverflowError)
    try:
        numbers = np.asarray(values, np.float64).reshape(len(values), *shape)
    except unusable:
        numbers = np.full((len(values), *shape), np.nan)
        for i, value in enumerate(values):
            try:
                numbers[i] = np.asarray(value, np.float64).reshape(shape)
            except unusable:
                break
    small = np.abs(numbers) <= LARGEST  # NaN is not
    bad = np.flatnonzero(~small.all(axis=tuple(range(1, numbers.ndim))))
    if len(bad):
        expected = 'four finite numbers' if shape else 'a finite number'
        expected += f' up to {LARGEST:g}' if np.isfinite(numbers[bad[0]]).all() else ''
        found = str(values[bad[0]])[:80]
        raise DataError(f'{path}: entry {rows[bad[0]]}: {field} must be {expected}, got {found}')
    return numbers


def _is_empty(bbox: np.ndarray) -> np.ndarray:
    """(D,) bool of boxes x1, y1, x2, y2."""
    return np.any(bbox[:, 2:] <= bbox[:, :2], axis=1)


def _best_of_doubles(image_of: np.ndarray, xywh: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(D,) bool: of detections with the same box in the same image, that of the best score."""
    order = np.argsort(-score, kind='stable')
    keys = np.column_stack([image_of, xywh])[order]
    first = np.unique(keys, axis=0, return_index=True)[1]
    best = np.zeros(len(score), bool)
    best[order[first]] = True
    return best
