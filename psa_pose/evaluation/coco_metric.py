"""COCO's keypoint AP, through faster-coco-eval, equal to pycocotools' to the last digit."""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from psa_pose.datasets.annotations import keypoint_category, read_json
from psa_pose.errors import DataError, ResultError
from psa_pose.evaluation.metric import PoseMetric
from psa_pose.evaluation.oks import oks_nms
from psa_pose.registry import METRICS

if TYPE_CHECKING:
    from psa_pose.datasets import CocoStyleDataset

METRIC_NAMES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')


@METRICS.register_module()
class CocoMetric(PoseMetric):
    """OKS-AP and AR (Lin et al. 2014).

    A person's score is its box' score times the mean of its keypoint scores above
    `keypoint_score_thr`, as the field does.

    Args:
        dataset: whose persons are predicted; says boxes, ids, sigmas and the ground truth's file.
        ann_file: another ground truth than the dataset's own.
        keypoint_score_thr: scores below do not enter the mean.
        nms_thr: OKS above which the worse of two predictions in an image is dropped.

    Raises:
        DataError: an annotation that OKS needs the area of has none.
        ResultError: the dataset has images that the ground truth lacks.
    """

    def __init__(
        self,
        dataset: 'CocoStyleDataset',
        ann_file: str | None = None,
        keypoint_score_thr: float = 0.2,
        nms_thr: float = 0.9,
    ) -> None:
        super().__init__(dataset)
        self.ann_file = Path(ann_file) if ann_file else dataset.ann_file
        self.keypoint_score_thr = keypoint_score_thr
        self.nms_thr = nms_thr
        self.truth, self._category = _read_truth(self.ann_file, dataset.info.names)
        strangers = ~np.isin(dataset.persons.image_id, list(self.truth.imgs))
        if strangers.any():
            raise ResultError(
                f'image id {dataset.persons.image_id[strangers][0]} of {dataset.ann_file} is not '
                f'in the ground truth {self.ann_file}: they are about different images'
            )

    @property
    def title(self) -> str:
        """Names what the numbers are about, box source first."""
        text = (
            f'OKS-AP, {self.boxes} boxes, {len(self.dataset)} persons of {self.ann_file.name}, '
            f'{self.dataset.info.sigmas_source} sigmas'
        )
        return f'{text}, {self.skipped} skipped as unreadable' if self.skipped else text

    def results(self) -> list[dict[str, Any]]:
        """Predictions in COCO's result format, after suppression of doubles."""
        persons = self.dataset.persons
        by_image = defaultdict(list)
        for index in sorted(self.predictions):
            by_image[int(persons.image_id[index])].append(index)
        rows = []
        for image_id, indices in by_image.items():
            keypoints = np.stack([self.predictions[i][0] for i in indices])
            scores = np.stack([self.predictions[i][1] for i in indices])
            areas = np.array([self.dataset.crop_scale(i).prod() for i in indices])
            total = self._person_scores(persons.box_score[indices], scores)
            for i in oks_nms(keypoints, total, areas, self.dataset.info.sigmas, self.nms_thr):
                flat = np.concatenate([keypoints[i], scores[i][:, None]], 1).ravel().astype(float)
                rows.append(
                    {
                        'image_id': image_id,
                        'category_id': self._category,
                        'keypoints': flat.tolist(),
                        'score': float(total[i]),
                    }
                )
        return rows

    def compute(self) -> dict[str, Any]:
        """`METRIC_NAMES` in [0, 1] (-1 where no person is of that size), and `boxes`."""
        self.check_not_empty()
        evaluator = COCOeval_faster(
            self.truth,
            self.truth.loadRes(self.results()),
            'keypoints',
            print_function=lambda *_: None,
            kpt_oks_sigmas=list(self.dataset.info.sigmas),
        )
        evaluator.params.catIds = [self._category]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        values = [float(value) for value in evaluator.stats[: len(METRIC_NAMES)]]
        return {**dict(zip(METRIC_NAMES, values, strict=True)), 'boxes': self.boxes}

    def _person_scores(self, box_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
        counted = scores > self.keypoint_score_thr
        mean = (scores * counted).sum(1) / np.maximum(counted.sum(1), 1)
        return box_scores * mean


def _read_truth(ann_file: Path, names: tuple[str, ...]) -> tuple[COCO, int]:
    """The ground truth and the id of its category with keypoints."""
    content = read_json(ann_file)
    category = keypoint_category(content, ann_file)
    if tuple(category['keypoints']) != names:
        raise DataError(
            f'{ann_file}: its {len(category["keypoints"])} keypoints {category["keypoints"]} '
            f'are not those that are predicted, {list(names)}'
        )
    for annotation in content['annotations']:
        annotation.setdefault('iscrowd', 0)
        flat = annotation.setdefault('keypoints', [])
        annotation.setdefault('num_keypoints', sum(v > 0 for v in flat[2::3]))
        counts = annotation['num_keypoints'] > 0 and not annotation['iscrowd']
        if counts and not annotation.get('area', 0) > 0:
            raise DataError(
                f'{ann_file}: annotation id {annotation["id"]} has area '
                f'{annotation.get("area")}; OKS needs the area of every person with keypoints'
            )
    return COCO(content), category['id']
