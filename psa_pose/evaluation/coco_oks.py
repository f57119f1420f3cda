"""OKS of detections with the persons of their images, for all images at once.

The same operations in the same order as pycocotools', so equal to the last bit, without its loop
over pairs: persons with equally many labelled keypoints are treated together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO


def oks_by_image(
    truth: COCO, detections: COCO, category: int, sigmas: Sequence[float], max_dets: int
) -> dict[int, np.ndarray]:
    """OKS with the truth (Lin et al. 2014; cocodataset.org/#keypoints-eval).

    To a person without labelled keypoints the distance is that to its box, doubled in size.

    Args:
        truth: with `keypoints`, `bbox` and `area` of every person.
        detections: with `keypoints` and `score`.
        category: id of the persons' category.
        sigmas: (K,).
        max_dets: only so many of an image's best detections are looked at.

    Returns:
        By image id (of images that have both), (detections by falling score, persons in the
        file's order).
    """
    persons = _of_category(truth, category)
    found = _of_category(detections, category)
    if not persons or not found:
        return {}
    score = np.array([d['score'] for d in found], np.float64)
    image = np.array([d['image_id'] for d in found])
    best = _best(image, score, max_dets)
    image, found = image[best], [found[i] for i in best]
    person_image = np.array([p['image_id'] for p in persons])
    in_order = np.argsort(person_image, kind='stable')
    person_image = person_image[in_order]

    low = np.searchsorted(person_image, image, 'left')
    count = np.searchsorted(person_image, image, 'right') - low
    start = np.concatenate([[0], np.cumsum(count)])
    row = np.repeat(np.arange(len(image)), count)
    person = np.arange(start[-1]) - start[row] + low[row]

    points = np.array([d['keypoints'] for d in found], np.float64)
    values = _oks_of_pairs([persons[i] for i in in_order], points, row, person, np.array(sigmas))
    ids, first = np.unique(image, return_index=True)
    ends = [*first[1:], len(image)]
    return {
        int(i): values[start[a] : start[b]].reshape(b - a, count[a])
        for i, a, b in zip(ids, first, ends, strict=True)
        if count[a]
    }


def _of_category(content: COCO, category: int) -> list[dict[str, Any]]:
    return [a for a in content.dataset['annotations'] if a['category_id'] == category]


def _best(image: np.ndarray, score: np.ndarray, max_dets: int) -> np.ndarray:
    """Indices of every image's best: images in ascending order, scores falling in each."""
    order = np.lexsort((-score, image))  # stable, as pycocotools' sorting is
    rank = np.arange(len(order)) - np.searchsorted(image[order], image[order], 'left')
    return order[rank < max_dets]


def _oks_of_pairs(
    persons: list[dict[str, Any]],
    points: np.ndarray,
    row: np.ndarray,
    person: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(P,) OKS of detections `row` (P,) of points (D, 3K) with persons `person` (P,)."""
    variances = (sigmas * 2) ** 2
    labels = np.zeros((len(persons), len(sigmas), 3))
    for i, entry in enumerate(persons):
        if entry['keypoints']:
            labels[i] = np.reshape(entry['keypoints'], (-1, 3))
    box = np.array([entry['bbox'] for entry in persons], np.float64)
    area = np.array([entry['area'] for entry in persons], np.float64) + np.spacing(1)
    labelled = labels[..., 2] > 0
    number = labelled.sum(1)
    used = np.argsort(~labelled, axis=1, kind='stable')  # labelled keypoints first, in order
    low, high = box[:, :2] - box[:, 2:], box[:, :2] + box[:, 2:] * 2

    values = np.empty(len(row))
    for k in np.unique(number[person]):
        these = np.flatnonzero(number[person] == k)
        who = person[these]
        columns = used[who, :k] if k else used[who]
        place = points[row[these, None, None], 3 * columns[..., None] + np.arange(2)]
        if k:
            offset = place - labels[who[:, None], columns, :2]
        else:
            too_low, too_high = low[who, None] - place, place - high[who, None]
            offset = np.maximum(0, too_low) + np.maximum(0, too_high)
        squared = offset[..., 0] ** 2 + offset[..., 1] ** 2
        exponent = squared / variances[columns] / area[who, None] / 2
        values[these] = np.exp(-exponent).sum(1) / exponent.shape[1]
    return values
