"""The whole diagnosis: one call, one result that knows its JSON."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from psa_pose.evaluation.diagnosis.cures import cured_ap
from psa_pose.evaluation.diagnosis.detections import Detections
from psa_pose.evaluation.diagnosis.groups import Group, groups
from psa_pose.evaluation.diagnosis.kinds import GOOD, KeypointErrors, judge
from psa_pose.evaluation.diagnosis.matching import (
    BACKGROUND,
    DETECTION_KINDS,
    IGNORED,
    MATCHED,
    Matches,
    match,
)
from psa_pose.evaluation.diagnosis.options import KEYPOINT_KINDS, Options
from psa_pose.evaluation.diagnosis.scene import Scene
from psa_pose.evaluation.diagnosis.truth import GroundTruth

OUTCOMES = ('good', *KEYPOINT_KINDS, 'missed person')
"""What became of a labelled keypoint; the last: nothing found its person."""


@dataclass(frozen=True)
class Diagnosis:
    """Numbers only; every field goes to JSON as it is. Shares and AP are in [0, 1].

    Attributes:
        annotations: the ground truth's file.
        sigmas: where they come from, see `KeypointInfo.sigmas_source`.
        options: the thresholds.
        ap: `METRIC_NAMES`.
        persons: counts: `evaluated` and `missed`.
        detections: counts: `total`, `beyond` the 20 best of an image, and `DETECTION_KINDS`.
        outcomes: of all labelled keypoints: count by `OUTCOMES`.
        keypoints: by name: count by `OUTCOMES`, `labelled`, and

            - `AP`: persons and detections stay matched as whole poses; at each of COCO's thresholds
              a detection is right if this one keypoint's similarity reaches it.
            - `PCK`: share of the keypoint's labels, of persons that were found, to which it is
              nearer than `Options.pck_thr` times the larger side of the person's box.
        cured: see `cured_ap`.
        groups: by division and name: `persons`, `missed`, `AP`, and count by `OUTCOMES`.
    """

    annotations: str
    sigmas: str
    options: dict[str, Any]
    ap: dict[str, float]
    persons: dict[str, int]
    detections: dict[str, int]
    outcomes: dict[str, int]
    keypoints: dict[str, dict[str, Any]]
    cured: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, dict[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return asdict(self)


def diagnose(
    truth: GroundTruth, detections: Detections, options: Options | None = None
) -> Diagnosis:
    """Find every error, count it, and say what AP would be without it.

    Args:
        truth: from `read_ground_truth`.
        detections: from `read_results`, about the same images.
        options: thresholds.
    """
    options = options or Options()
    scene = Scene.of(truth, detections)
    matches = match(scene.pairs, scene.oks, truth, options.match_oks)
    errors = judge(scene.pairs, scene.points, truth, matches, options)
    ap = scene.average_precision()
    everyone = ~truth.ignored
    return Diagnosis(
        annotations=str(truth.path),
        sigmas=truth.info.sigmas_source,
        options=asdict(options),
        ap=ap,
        persons={'evaluated': int(everyone.sum()), 'missed': int(matches.missed.sum())},
        detections={
            'total': len(detections) + detections.beyond,
            'beyond': detections.beyond,
            **{name: int((matches.kind == i).sum()) for i, name in enumerate(DETECTION_KINDS)},
        },
        outcomes=_sums(_outcomes(truth, matches, errors, everyone)),
        keypoints=_keypoints(scene, matches, errors, options),
        cured=cured_ap(scene, errors, matches, options, ap['AP']),
        groups=_groups(scene, matches, errors, ap),
    )


def _outcomes(
    truth: GroundTruth, matches: Matches, errors: KeypointErrors, persons: np.ndarray
) -> dict[str, np.ndarray]:
    """(K,) counts by `OUTCOMES`, over the labelled keypoints of some persons (G,)."""
    inside = persons[matches.person][:, None]
    counts = {
        name: ((errors.kind == GOOD + i) & inside).sum(0) for i, name in enumerate(OUTCOMES[:-1])
    }
    return counts | {'missed person': truth.labelled[persons & matches.missed].sum(0)}


def _sums(counts: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: int(values.sum()) for name, values in counts.items()}


def _keypoints(
    scene: Scene, matches: Matches, errors: KeypointErrors, options: Options
) -> dict[str, dict[str, Any]]:
    truth = scene.truth
    counts = _outcomes(truth, matches, errors, ~truth.ignored)
    judged = errors.kind >= GOOD
    distance = np.linalg.norm(scene.points - truth.keypoints[matches.person], axis=-1)
    near = distance < options.pck_thr * truth.bbox[matches.person, None, 2:].max(-1)
    own_person = scene.pairs.person == matches.person[scene.pairs.row]
    taken = own_person & np.isin(matches.kind, (MATCHED, IGNORED))[scene.pairs.row]
    result = {}
    for k, name in enumerate(truth.info.names):
        one = {outcome: int(values[k]) for outcome, values in counts.items()}
        total = int(judged[:, k].sum())
        # Who is who stays; persons without this keypoint are ignored.
        asked = scene.asked & truth.labelled[:, k]
        similar = np.where(asked[scene.pairs.person], errors.own[scene.pairs.row, k], 1)
        alone = scene.change(oks=np.where(taken, similar, 0), asked=asked)
        result[name] = {
            'labelled': sum(one.values()),
            **one,
            'AP': alone.average_precision()['AP'],
            'PCK': float((near & judged)[:, k].sum() / total) if total else -1.0,
        }
    return result


def _groups(
    scene: Scene, matches: Matches, errors: KeypointErrors, ap: dict[str, float]
) -> dict[str, dict[str, dict[str, Any]]]:
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for group in groups(scene.truth):
        result.setdefault(group.division, {})[group.name] = {
            'persons': int(group.persons.sum()),
            'missed': int((matches.missed & group.persons).sum()),
            'AP': _group_ap(scene, matches, group, ap),
            **_sums(_outcomes(scene.truth, matches, errors, group.persons)),
        }
    return result


def _group_ap(scene: Scene, matches: Matches, group: Group, ap: dict[str, float]) -> float:
    """AP of a group: only its persons are asked for, only detections that are about them count.

    COCO's medium and large are the evaluator's own, where detections of nobody count by size.
    """
    if group.division == 'size' and group.name in ('medium', 'large'):
        return ap['APM' if group.name == 'medium' else 'APL']
    about = (matches.kind != BACKGROUND) & group.persons[matches.person]
    return scene.change(kept=about, asked=group.persons).average_precision()['AP']
