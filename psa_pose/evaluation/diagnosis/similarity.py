"""Similarities of many poses at once: of keypoints, and OKS of detections and persons."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from psa_pose.evaluation.diagnosis.truth import GroundTruth

_CHUNK = 1 << 22  # numbers at a time: 32 MB


@dataclass(frozen=True)
class Pairs:
    """Each of D detections with each person of its image: P pairs, detection by detection.

    Attributes:
        row: (P,) indices of detections, rising.
        person: (P,) indices of persons.
        start: (D + 1,) where a detection's pairs begin.
    """

    row: np.ndarray
    person: np.ndarray
    start: np.ndarray

    @classmethod
    def of_same_image(cls, image_id: np.ndarray, truth: GroundTruth) -> 'Pairs':
        """Pairs of what stands in the images `image_id` (D,) with the persons there."""
        low = np.searchsorted(truth.image_id, image_id, 'left')
        count = np.searchsorted(truth.image_id, image_id, 'right') - low
        start = np.concatenate([[0], np.cumsum(count)])
        row = np.repeat(np.arange(len(image_id)), count)
        return cls(row, np.arange(start[-1]) - start[row] + low[row], start)

    def chunks(self, num_keypoints: int) -> Iterator[slice]:
        """Slices of the pairs, small enough for arrays over all keypoints."""
        step = max(1, _CHUNK // num_keypoints)
        for begin in range(0, len(self.row), step):
            yield slice(begin, begin + step)


def keypoint_similarity(
    points: np.ndarray, places: np.ndarray, area: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """exp(-d^2 / (2 s^2 k^2)) with s^2 the person's area and k = 2 sigma (Lin et al. 2014).

    Args:
        points: (..., K, 2) in pixels.
        places: (..., K, 2).
        area: (...,) in pixels squared.
        sigmas: (K,).

    Returns:
        (..., K) in [0, 1].
    """
    squared = ((points - places) ** 2).sum(-1)
    return np.exp(-squared / (2 * sigmas) ** 2 / (area + np.spacing(1))[..., None] / 2)


def oks_of_pairs(pairs: Pairs, points: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """OKS of each pair as COCO's evaluator computes it.

    To a person without labelled keypoints the distance is that to its box, doubled in size.

    Args:
        pairs: P of them.
        points: (D, K, 2) of the detections.
        truth: the persons.

    Returns:
        (P,) in [0, 1].
    """
    sigmas, labelled = np.array(truth.info.sigmas), truth.labelled
    low = truth.bbox[:, None, :2] - truth.bbox[:, None, 2:]
    high = truth.bbox[:, None, :2] + 2 * truth.bbox[:, None, 2:]
    unlabelled = np.logical_not(labelled.any(1))
    oks = np.empty(len(pairs.row))
    for part in pairs.chunks(len(sigmas)):
        point, person = points[pairs.row[part]], pairs.person[part]
        to_box = np.clip(point, low[person], high[person])
        target = np.where(unlabelled[person, None, None], to_box, truth.keypoints[person])
        weight = labelled[person] | unlabelled[person, None]
        similar = keypoint_similarity(point, target, truth.area[person], sigmas)
        oks[part] = (similar * weight).sum(1) / weight.sum(1)
    return oks
