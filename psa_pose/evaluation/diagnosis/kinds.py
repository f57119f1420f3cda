"""Errors of keypoints by kind: jitter, inversion, swap, miss."""

from dataclasses import dataclass

import numpy as np

from psa_pose.evaluation.diagnosis.matching import MATCHED, Matches
from psa_pose.evaluation.diagnosis.options import Options
from psa_pose.evaluation.diagnosis.truth import GroundTruth
from psa_pose.evaluation.pairs import Pairs, keypoint_similarity

UNJUDGED, GOOD, JITTER, INVERSION, SWAP, MISS = range(-1, 5)


@dataclass(frozen=True)
class KeypointErrors:
    """What is wrong with each keypoint of D detections.

    Attributes:
        kind: (D, K) `GOOD` to `MISS`; `UNJUDGED` where the detection is matched to nobody or the
            person's keypoint is not labelled.
        own: (D, K) similarity to the right place, 0 where unjudged.
        confused: (D, K) similarity to the nearest wrong place of the same person or another.
    """

    kind: np.ndarray
    own: np.ndarray
    confused: np.ndarray


def judge(
    pairs: Pairs, points: np.ndarray, truth: GroundTruth, matches: Matches, options: Options
) -> KeypointErrors:
    """Ronchi and Perona's taxonomy (section 3.1), for keypoints of matched detections.

    With ks the similarity of keypoint i to a place, and s^2 the area of the person of that place:

    - good: ks >= 0.85 to its own place; jitter: 0.5 <= ks < 0.85 to it.
    - inversion: none of these, and ks >= 0.5 to the mirror image's place in the same person.
    - swap: none of these, and ks >= 0.5 to the same keypoint or its mirror image in another person.
    - miss: none of these.

    Where both inversion and swap fit, the nearer place decides. (The authors' code differs from
    their text in one way: it calls a keypoint inverted or swapped that is right but nearer still
    to a wrong place. Here the text holds, so that a right keypoint is never an error.)

    Args:
        pairs: detections with all persons of their images.
        points: (D, K, 2) of the detections.
        truth: the persons.
        matches: of the detections.
        options: thresholds.
    """
    parts = _confusable(truth, options.any_part)
    judged = (matches.kind == MATCHED)[:, None] & truth.labelled[matches.person]
    own, inverted, swapped = (np.zeros(judged.shape) for _ in range(3))
    rows = np.flatnonzero(matches.kind == MATCHED)
    persons = matches.person[rows]
    own[rows] = keypoint_similarity(
        points[rows], truth.keypoints[persons], truth.area[persons], np.array(truth.info.sigmas)
    )
    same = np.eye(len(parts), dtype=bool)
    inverted[rows] = _nearest(points[rows], persons, truth, parts & ~same)
    others = (matches.kind[pairs.row] == MATCHED) & (pairs.person != matches.person[pairs.row])
    others &= ~truth.crowd[pairs.person]
    row, person = pairs.row[others], pairs.person[others]
    np.maximum.at(swapped, row, _nearest(points[row], person, truth, parts | same))
    confused = np.maximum(inverted, swapped)
    kind = np.select(
        [~judged, own >= options.good, own >= options.near, confused < options.near],
        [UNJUDGED, GOOD, JITTER, MISS],
        np.where(inverted >= swapped, INVERSION, SWAP),
    )
    return KeypointErrors(kind, np.where(judged, own, 0), np.where(judged, confused, 0))


def _confusable(truth: GroundTruth, any_part: bool) -> np.ndarray:
    """(K, K) bool, [i, j] where keypoint i may be confused with keypoint j."""
    count = truth.info.num_keypoints
    if any_part:
        return np.ones((count, count), bool)
    return np.eye(count, dtype=bool)[list(truth.info.flip_indices)]


def _nearest(
    points: np.ndarray, persons: np.ndarray, truth: GroundTruth, parts: np.ndarray
) -> np.ndarray:
    """(N, K) similarity of each point (N, K, 2) to the nearest allowed place of its person (N,)."""
    sigmas = np.array(truth.info.sigmas)
    nearest = np.zeros(points.shape[:2])
    for i, allowed in enumerate(parts):
        for j in np.flatnonzero(allowed):
            similar = keypoint_similarity(
                points[:, i : i + 1],
                truth.keypoints[persons, j : j + 1],
                truth.area[persons],
                sigmas[j : j + 1],
            )[:, 0]
            np.maximum(nearest[:, i], similar * truth.labelled[persons, j], out=nearest[:, i])
    return nearest
