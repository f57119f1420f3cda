"""COCO's keypoint AP, through faster-coco-eval, equal to pycocotools' to the last digit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_coco_eval import COCO

from psa_pose.errors import ConfigError, ResultError
from psa_pose.evaluation.coco_ap import (
    METRIC_NAMES,
    keypoint_ap,
    load_results,
    read_truth,
    without_garbage_collector,
)
from psa_pose.evaluation.metric import PoseMetric
from psa_pose.evaluation.oks import oks_nms, soft_oks_nms
from psa_pose.registry import METRICS

if TYPE_CHECKING:
    from psa_pose.datasets import CocoStyleDataset

SCORE_MODES = ('bbox_keypoint', 'bbox', 'keypoint')
NMS_MODES = ('oks_nms', 'soft_oks_nms', 'none')


@METRICS.register_module()
class CocoMetric(PoseMetric):
    """OKS-AP and AR (Lin et al. 2014).

    Options are MMPose's, their defaults the field's.

    Args:
        dataset: whose persons are predicted; says boxes, ids, sigmas and the ground truth's file.
        ann_file: another ground truth than the dataset's own.
        keypoint_score_thr: scores below do not enter the mean.
        score_mode: a person's score: 'bbox_keypoint', its box' score times the mean of its keypoint
            scores above `keypoint_score_thr`; 'bbox' or 'keypoint', the one (mean of all) alone.
        nms_mode: 'oks_nms', 'soft_oks_nms' or 'none' (or None, which is what `--cfg-options` makes
            of `none`); see `psa_pose.evaluation.oks`.
        nms_thr: OKS above which the worse of two predictions in an image is dropped, or the
            threshold of `soft_oks_nms`.

    Raises:
        ConfigError: a dataset of another kind.
        DataError: an annotation that OKS needs the area of has none.
        ResultError: the dataset has images that the ground truth lacks.
    """

    names = METRIC_NAMES

    def __init__(
        self,
        dataset: 'CocoStyleDataset',
        ann_file: str | None = None,
        keypoint_score_thr: float = 0.2,
        score_mode: str = 'bbox_keypoint',
        nms_mode: str | None = 'oks_nms',
        nms_thr: float = 0.9,
    ) -> None:
        nms_mode = nms_mode or 'none'
        for name, value, known in (
            ('score_mode', score_mode, SCORE_MODES),
            ('nms_mode', nms_mode, NMS_MODES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got '{value}'")
        if not hasattr(dataset, 'category_id'):
            raise ConfigError(
                f"CocoMetric measures datasets of COCO's format, not '{type(dataset).__name__}' "
                f'({dataset.ann_file}); PCKAccuracy measures any, MpiiPCKAccuracy MPII'
            )
        super().__init__(dataset)
        self.ann_file = Path(ann_file) if ann_file else dataset.ann_file
        self.keypoint_score_thr = keypoint_score_thr
        self.score_mode = score_mode
        self.nms_mode = nms_mode
        self.nms_thr = nms_thr
        self.truth: COCO | None = None
        self._category: int = dataset.category_id
        if not ann_file and not dataset.annotated:
            return
        self.truth, self._category = read_truth(self.ann_file, dataset.info.names)
        strangers = ~np.isin(dataset.persons.image_id, list(self.truth.imgs))
        if strangers.any():
            raise ResultError(
                f'image id {dataset.persons.image_id[strangers][0]} of {dataset.ann_file} is not '
                f'in the ground truth {self.ann_file}: they are about different images'
            )

    @property
    def title(self) -> str:
        """Names what the numbers are about, box source first."""
        if self.boxes == 'ground truth':
            source = f'ground truth boxes, {len(self.dataset)} persons'
        else:
            source = f'boxes: {self.boxes}, {len(self.truth.imgs) if self.truth else 0} images'
        text = f'OKS-AP, {source} of {self.ann_file.name}, {self.dataset.info.sigmas_source} sigmas'
        return f'{text}, {self.skipped} skipped as unreadable' if self.skipped else text

    @property
    def has_truth(self) -> bool:
        """Whether the ground truth has annotations."""
        return self.truth is not None

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers must know."""
        if self.dataset.info.sigmas_source != 'guessed':
            return []
        return [
            f'{self.ann_file.name} has no sigmas: OKS uses guesses by body part, so these numbers '
            'compare with no others (put `sigmas` into the category of the file)'
        ]

    @without_garbage_collector()
    def results(self) -> list[dict[str, Any]]:
        """Predictions in COCO's result format, after suppression of doubles; images in order."""
        if not self.predictions:
            return []
        persons, info = self.dataset.persons, self.dataset.info
        index = np.array(sorted(self.predictions))
        keypoints = np.stack([self.predictions[i][0] for i in index])
        scores = np.stack([self.predictions[i][1] for i in index])
        images, total = persons.image_id[index], self._person_scores(index, scores)
        if self.nms_mode == 'none':
            kept = np.argsort(images, kind='stable')
        else:
            suppress = oks_nms if self.nms_mode == 'oks_nms' else soft_oks_nms
            areas = self._areas(index)
            kept = suppress(keypoints, total, areas, info.sigmas, self.nms_thr, images)
        flat = np.concatenate([keypoints, scores[..., None]], -1).reshape(len(index), -1)
        columns = (a[kept].tolist() for a in (images, flat.astype(float), total.astype(float)))
        return [
            {'image_id': i, 'category_id': self._category, 'keypoints': k, 'score': s}
            for i, k, s in zip(*columns, strict=True)
        ]

    def compute(self) -> dict[str, Any]:
        """`METRIC_NAMES` in [0, 1] (-1 where no person is of that size), and `boxes`.

        Where the ground truth has no annotations, `boxes` alone.
        """
        self.check_not_empty()
        if self.truth is None:
            return {'boxes': self.boxes}
        detections = load_results(self.truth, self.results())
        numbers = keypoint_ap(self.truth, detections, self._category, self.dataset.info.sigmas)
        return {**numbers, 'boxes': self.boxes}

    def _person_scores(self, index: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(N,) of persons `index` with keypoint scores (N, K)."""
        box_scores = self.dataset.persons.box_score[index]
        if self.score_mode == 'bbox':
            return box_scores
        if self.score_mode == 'keypoint':
            return scores.mean(1)
        counted = scores > self.keypoint_score_thr
        mean = (scores * counted).sum(1) / np.maximum(counted.sum(1), 1)
        return box_scores * mean

    def _areas(self, index: np.ndarray) -> np.ndarray:
        """(N,) what the crops of persons show, in image pixels squared; see `crop_scale`."""
        return self.dataset.crop_scale(index).prod(-1)
