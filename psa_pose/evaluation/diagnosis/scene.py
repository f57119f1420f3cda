"""Detections against a ground truth, and their AP when some of either are changed."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from faster_coco_eval import COCO

from psa_pose.evaluation.coco_ap import keypoint_ap
from psa_pose.evaluation.diagnosis.detections import Detections
from psa_pose.evaluation.diagnosis.truth import GroundTruth
from psa_pose.evaluation.pairs import Pairs, oks_of_pairs


@dataclass(frozen=True)
class Scene:
    """What is evaluated; `change` makes another one in which some error is cured.

    Attributes:
        truth: the persons.
        detections: what was predicted of them.
        pairs: each detection with all persons of its image.
        points: (D, K, 2) of the detections, as they are or cured.
        score: (D,).
        kept: (D,) bool, detections that take part.
        asked: (G,) bool, persons that are evaluated; the others are ignored as COCO ignores crowds.
        oks: (P,) of the pairs.
    """

    truth: GroundTruth
    detections: Detections
    pairs: Pairs
    points: np.ndarray
    score: np.ndarray
    kept: np.ndarray
    asked: np.ndarray
    oks: np.ndarray

    @classmethod
    def of(cls, truth: GroundTruth, detections: Detections) -> 'Scene':
        """Everything as it is."""
        pairs = Pairs.of_same_image(detections.image_id, truth.image_id)
        return cls(
            truth=truth,
            detections=detections,
            pairs=pairs,
            points=detections.keypoints,
            score=detections.score,
            kept=np.ones(len(detections), bool),
            asked=~truth.ignored,
            oks=oks_of_pairs(pairs, detections.keypoints, truth, np.array(truth.info.sigmas)),
        )

    def change(self, **changes: np.ndarray) -> 'Scene':
        """The same scene with other points, scores, detections, persons or similarities."""
        points = changes.get('points', self.points)
        if points is not self.points:
            changes['oks'] = self._oks_where_changed(points)
        return replace(self, **changes)  # type: ignore[arg-type]

    def ideal_score(self) -> np.ndarray:
        """(D,) of the detection most like a person its OKS with that one, of all others 0."""
        score = np.zeros(len(self.detections))
        free = self.asked.copy()
        row, person = self.pairs.row, self.pairs.person
        for pair in np.argsort(-self.oks, kind='stable').tolist():
            if free[person[pair]] and not score[row[pair]]:
                score[row[pair]] = self.oks[pair]
                free[person[pair]] = False
        return score

    def average_precision(self) -> dict[str, float]:
        """`METRIC_NAMES` of the project's evaluator, see `keypoint_ap`."""
        order = np.flatnonzero(self.kept)
        order = order[np.lexsort((-self.score[order], self.detections.image_id[order]))]
        return keypoint_ap(
            COCO(self._asked_persons),
            COCO(self._dataset(self._detection_rows(order))),
            self.truth.category,
            self.truth.info.sigmas,
            self.pairs.by_image(self.oks, order),
        )

    def _oks_where_changed(self, points: np.ndarray) -> np.ndarray:
        changed = (points != self.points).any((1, 2))[self.pairs.row]
        pairs = replace(self.pairs, row=self.pairs.row[changed], person=self.pairs.person[changed])
        oks = self.oks.copy()
        oks[changed] = oks_of_pairs(pairs, points, self.truth, np.array(self.truth.info.sigmas))
        return oks

    def _dataset(self, annotations: list[dict[str, object]]) -> dict[str, object]:
        # Images with neither persons nor detections change nothing, and cost the evaluator time.
        image_ids = np.union1d(self.truth.image_id, self.detections.image_id)
        return {
            'images': [{'id': image_id} for image_id in image_ids.tolist()],
            'annotations': annotations,
            'categories': [{'id': self.truth.category}],
        }

    @cached_property
    def _asked_persons(self) -> dict[str, object]:
        truth = self.truth
        columns = (truth.id, truth.image_id, truth.area, truth.crowd, self.asked)
        names = ('id', 'image_id', 'area', 'iscrowd', 'num_keypoints')
        return self._dataset(_rows(names, columns, truth.category))

    def _detection_rows(self, order: np.ndarray) -> list[dict[str, object]]:
        # The size of an unmatched detection, which COCO takes from the extent of its keypoints.
        area = np.ptp(self.points, axis=1).prod(1)
        columns = (order + 1, self.detections.image_id[order], area[order], self.score[order])
        return _rows(('id', 'image_id', 'area', 'score'), columns, self.truth.category)


def _rows(
    names: tuple[str, ...], columns: tuple[np.ndarray, ...], category: int
) -> list[dict[str, object]]:
    """Annotations from columns; numbers as the evaluator wants them, bool as 0 or 1."""
    lists = [c.astype(int).tolist() if c.dtype == bool else c.tolist() for c in columns]
    return [
        {'category_id': category, **dict(zip(names, row, strict=True))}
        for row in zip(*lists, strict=True)
    ]
