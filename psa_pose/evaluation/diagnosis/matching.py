"""Which detection is about whom."""

from dataclasses import dataclass

import numpy as np

from psa_pose.evaluation.diagnosis.truth import GroundTruth
from psa_pose.evaluation.pairs import Pairs

MATCHED, IGNORED, DUPLICATE, BACKGROUND = range(4)
DETECTION_KINDS = ('matched', 'ignored', 'duplicate', 'background')


@dataclass(frozen=True)
class Matches:
    """What each of D detections is.

    Attributes:
        kind: (D,) index into `DETECTION_KINDS`.
            matched: the one detection of a person that is evaluated.
            ignored: of a crowd or of a person without keypoints; COCO counts it neither way.
            duplicate: near a person, but another detection has taken that one.
            background: near nobody.
        person: (D,) index of the person it is matched to, is ignored for, or is nearest to as a
            duplicate; -1 for background.
        missed: (G,) bool, persons that are evaluated and have no detection.
    """

    kind: np.ndarray
    person: np.ndarray
    missed: np.ndarray


def match(pairs: Pairs, oks: np.ndarray, truth: GroundTruth, threshold: float) -> Matches:
    """Match greedily as COCO does: the best-scored detection first takes its most similar person.

    Args:
        pairs: D detections, by image and in it by falling score, with all persons there.
        oks: (P,).
        truth: the persons.
        threshold: OKS from which on a detection is near a person.
    """
    count = len(pairs.start) - 1
    kind = np.full(count, BACKGROUND)
    nearest = np.full(count, -1)
    taken = np.zeros(len(truth), bool)
    for row in range(count):
        similar = oks[pairs.start[row] : pairs.start[row + 1]]
        if not len(similar) or similar.max() < threshold:
            continue
        persons = pairs.person[pairs.start[row] : pairs.start[row + 1]]
        ignored, free = truth.ignored[persons], ~taken[persons]
        # Persons that count come first, whatever is ignored may take the rest; crowds take many.
        for these, result in (
            (free & ~ignored, MATCHED),
            (ignored & (free | truth.crowd[persons]), IGNORED),
        ):
            best = _last_best(np.where(these, similar, -1))
            if these[best] and similar[best] >= threshold:
                kind[row], nearest[row] = result, persons[best]
                taken[persons[best]] = True
                break
        else:
            kind[row], nearest[row] = DUPLICATE, persons[_last_best(similar)]
    found = np.zeros(len(truth), bool)
    found[nearest[kind == MATCHED]] = True
    return Matches(kind, nearest, ~found & ~truth.ignored)


def _last_best(values: np.ndarray) -> int:
    """Of equals the last, as in COCO's evaluator."""
    return len(values) - 1 - int(values[::-1].argmax())
