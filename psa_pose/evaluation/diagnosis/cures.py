"""AP if errors of a kind were cured: each kind alone, and one kind after the other."""

from typing import Any

import numpy as np

from psa_pose.evaluation.diagnosis.kinds import (
    INVERSION,
    JITTER,
    MISS,
    SWAP,
    KeypointErrors,
)
from psa_pose.evaluation.diagnosis.matching import BACKGROUND, DUPLICATE, MATCHED, Matches
from psa_pose.evaluation.diagnosis.options import CURES, Options
from psa_pose.evaluation.diagnosis.scene import Scene

_KEYPOINT_KIND = {'jitter': JITTER, 'inversion': INVERSION, 'swap': SWAP, 'miss': MISS}


def cure(
    kind: str, scene: Scene, errors: KeypointErrors, matches: Matches, options: Options
) -> Scene:
    """The scene without errors of one kind.

    - jitter, inversion, swap, miss: the keypoints in question go where `Options.cure` says.
    - score: of a person's detections the best one comes first, the better the sooner, and what is
      nobody's best comes last. (The paper, section 3.2: a score is the largest OKS with any person,
      and Soft-NMS puts doubles last; that comes to nearly the same AP.)
    - background, duplicate: these detections are taken out (section 3.3).
    - missed person: these persons are no longer asked for (as in the authors' code: what AP would
      be were they not there, not were they found).
    """
    if kind in _KEYPOINT_KIND:
        wrong = errors.kind == _KEYPOINT_KIND[kind]
        goal = _goals(scene, errors, matches, options)
        return scene.change(points=np.where(wrong[..., None], goal, scene.points))
    if kind == 'score':
        return scene.change(score=scene.ideal_score())
    if kind == 'missed person':
        return scene.change(asked=scene.asked & ~matches.missed)
    gone = matches.kind == {'background': BACKGROUND, 'duplicate': DUPLICATE}[kind]
    return scene.change(kept=scene.kept & ~gone)


def cured_ap(
    scene: Scene, errors: KeypointErrors, matches: Matches, options: Options, baseline: float
) -> dict[str, dict[str, Any]]:
    """AP of each kind's cure, `alone` and `after` all kinds before it in `CURES`, and the `gain`s.

    Args:
        scene: as it is.
        errors: of its keypoints.
        matches: of its detections.
        options: see `Options.cure`.
        baseline: AP as it is.
    """
    result = {}
    last, together = baseline, scene
    for kind in CURES:
        alone = cure(kind, scene, errors, matches, options).average_precision()['AP']
        together = cure(kind, together, errors, matches, options)
        after = together.average_precision()['AP']
        result[kind] = {
            'alone': alone,
            'gain': alone - baseline,
            'after': after,
            'further_gain': after - last,
        }
        last = after
    return result


def _goals(scene: Scene, errors: KeypointErrors, matches: Matches, options: Options) -> np.ndarray:
    """(D, K, 2) where cured keypoints go; of no meaning where nothing is wrong."""
    goal = np.zeros_like(scene.points)
    rows = np.flatnonzero(matches.kind == MATCHED)
    persons = matches.person[rows]
    goal[rows] = scene.truth.keypoints[persons]
    if options.cure == 'paper':
        similar = np.select(
            [errors.kind[rows] == JITTER, errors.kind[rows] == MISS],
            [options.good, options.near],
            errors.confused[rows],
        )
        variance = scene.truth.area[persons, None] * (2 * np.array(scene.truth.info.sigmas)) ** 2
        similar = np.clip(similar, 1e-300, 1)
        goal[rows, :, 0] += np.sqrt(-2 * np.log(similar) * variance)
    return goal
