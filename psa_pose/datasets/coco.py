"""Datasets in COCO's keypoint format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psa_pose.datasets.annotations import (
    Persons,
    read_annotations,
    read_json,
    read_keypoint_info,
)
from psa_pose.datasets.base import TopdownDataset
from psa_pose.datasets.cache import cached
from psa_pose.datasets.detections import describe, read_detections
from psa_pose.datasets.persons import person_category
from psa_pose.errors import DataError
from psa_pose.registry import DATASETS
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo


@DATASETS.register_module()
class CocoStyleDataset(TopdownDataset):
    """Persons of any COCO-style JSON; K, names, skeleton and sigmas are the file's own.

    Arguments are `TopdownDataset`'s and, for evaluation with a detector's boxes:

    Args:
        bbox_file: JSON of detections, see `read_detections`; the images are still `ann_file`'s,
            which then needs no annotations.
        box_score_thr: detections with a score above are used.

    Attributes:
        category_id: of persons.

    Raises:
        DataError: see `psa_pose.datasets.annotations` and `psa_pose.datasets.detections`.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Mapping[str, Any]],
        input_size: tuple[int, int],
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        bbox_padding: float = 1.25,
        on_error: str = 'raise',
        seed: int = 0,
        bbox_file: str | None = None,
        box_score_thr: float = 0.0,
        unbiased_affine: bool = False,
    ) -> None:
        if box_score_thr and not bbox_file:
            raise ValueError(
                'box_score_thr is for the boxes of a detector, but no bbox_file is set'
            )
        self.bbox_file = Path(bbox_file) if bbox_file else None
        self.box_score_thr = box_score_thr
        super().__init__(
            ann_file,
            pipeline,
            input_size,
            data_root,
            data_prefix,
            bbox_padding,
            on_error,
            seed,
            unbiased_affine,
        )

    def _read(self) -> tuple[KeypointInfo, Persons]:
        if not self.bbox_file:
            found = cached(self.ann_file, read_annotations)
            self.category_id = found.category_id
            self._check_keypoints(found.info)
            return found.info, found.persons
        return self._read_detections(self.bbox_file)

    def _read_detections(self, bbox_file: Path) -> tuple[KeypointInfo, Persons]:
        content = read_json(self.ann_file, lists=('images', 'categories'))
        self.annotated = bool(content.get('annotations'))
        category = person_category(content, self.ann_file)
        self.category_id = category['id']
        info = self.KEYPOINTS
        if info is None or 'keypoints' in category:
            info = KeypointInfo.from_category(category, str(self.ann_file))
        self._check_keypoints(info)
        found = read_detections(
            bbox_file,
            content,
            self.ann_file,
            self.category_id,
            info.num_keypoints,
            self.box_score_thr,
        )
        self.boxes, self.boxes_left_out = found.source, describe(found.skipped)
        return info, found.persons

    @classmethod
    def keypoint_info(cls, ann_file: Path) -> KeypointInfo:
        """See `TopdownDataset.keypoint_info`."""
        if cls.KEYPOINTS is not None:
            return cls.KEYPOINTS
        return read_keypoint_info(ann_file)

    def _check_keypoints(self, info: KeypointInfo) -> None:
        expected = self.KEYPOINTS
        if expected is not None and expected.names != info.names:
            raise DataError(
                f'{self.ann_file}: {info.num_keypoints} keypoints {list(info.names)}, '
                f'but {type(self).__name__} has {expected.num_keypoints}: {list(expected.names)}; '
                "for keypoints of your own use type='CocoStyleDataset'"
            )


@DATASETS.register_module()
class CocoDataset(CocoStyleDataset):
    """COCO's person keypoints (Lin et al. 2014), K = 17."""

    KEYPOINTS = COCO_KEYPOINTS
