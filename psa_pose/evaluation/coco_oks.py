"""OKS of detections with the persons of their images, for all images at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO

from psa_pose.evaluation.pairs import Labels, Pairs, oks_of_pairs


def oks_by_image(
    truth: COCO, detections: COCO, category: int, sigmas: Sequence[float], max_dets: int
) -> dict[int, np.ndarray]:
    """What COCO's evaluator asks for, see `oks_of_pairs`.

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
    persons = sorted(_of_category(truth, category), key=lambda person: person['image_id'])
    found = _of_category(detections, category)
    if not persons or not found:
        return {}
    score = np.array([d['score'] for d in found], np.float64)
    image = np.array([d['image_id'] for d in found])
    best = best_of_images(image, score, max_dets)
    points = np.array([found[i]['keypoints'] for i in best], np.float64)
    points = points.reshape(len(best), -1, 3)[..., :2]
    pairs = Pairs.of_same_image(image[best], np.array([p['image_id'] for p in persons]))
    oks = oks_of_pairs(pairs, points, _labels(persons, len(sigmas)), np.array(sigmas))
    return pairs.by_image(oks, np.arange(len(best)))


def best_of_images(image: np.ndarray, score: np.ndarray, max_dets: int) -> np.ndarray:
    """Indices of every image's best: images in ascending order, scores falling in each."""
    order = np.lexsort((-score, image))  # stable, as pycocotools' sorting is
    rank = np.arange(len(order)) - np.searchsorted(image[order], image[order], 'left')
    return order[rank < max_dets]


def _of_category(content: COCO, category: int) -> list[dict[str, Any]]:
    return [a for a in content.dataset['annotations'] if a['category_id'] == category]


def _labels(persons: list[dict[str, Any]], num_keypoints: int) -> Labels:
    blank = [0] * (3 * num_keypoints)
    keypoints = np.array([person['keypoints'] or blank for person in persons], np.float64)
    keypoints = keypoints.reshape(len(persons), num_keypoints, 3)
    return Labels(
        keypoints=keypoints[..., :2],
        labelled=keypoints[..., 2] > 0,
        bbox=np.array([person['bbox'] for person in persons], np.float64),
        area=np.array([person['area'] for person in persons], np.float64),
    )
