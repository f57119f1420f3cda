"""OKS-AP of detections against a COCO-style ground truth: the one place where AP is computed."""

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from psa_pose.datasets.annotations import keypoint_category, read_json
from psa_pose.errors import DataError, ResultError
from psa_pose.evaluation.coco_oks import oks_by_image

METRIC_NAMES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
MAX_DETECTIONS = 20
"""COCO looks at the 20 best detections of an image."""


class _GivenOKS(COCOeval_faster):
    """The evaluator, spared its loop over images for OKS; `given` is as of `oks_by_image`."""

    given: Mapping[int, np.ndarray]

    def computeOks(self, imgId: int, catId: int) -> Sequence[float] | np.ndarray:  # noqa: N802, N803
        return self.given.get(imgId, [])


@contextmanager
def without_garbage_collector() -> Iterator[None]:
    """For a million new objects without a cycle: searching them for one takes 2 of 3 seconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@without_garbage_collector()
def keypoint_ap(
    truth: COCO,
    detections: COCO,
    category: int,
    sigmas: Sequence[float],
    given: Mapping[int, np.ndarray] | None = None,
) -> dict[str, float]:
    """AP and AR over OKS 0.5:0.05:0.95 (Lin et al. 2014; cocodataset.org/#keypoints-eval).

    Args:
        truth: from `read_truth`.
        detections: from `load_results`.
        category: id of the persons' category.
        sigmas: (K,).
        given: OKS by image id where they are known already; see `oks_by_image`.

    Returns:
        `METRIC_NAMES` in [0, 1], -1 where no person is of that size.
    """
    if given is None:
        given = oks_by_image(truth, detections, category, sigmas, MAX_DETECTIONS)
    evaluator = _GivenOKS(
        truth,
        detections,
        'keypoints',
        print_function=lambda *_: None,
        kpt_oks_sigmas=list(sigmas),
        extra_calc=False,  # what it adds is not shown, and costs more than the rest
    )
    evaluator.given = given
    evaluator.params.catIds = [category]
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    values = [float(value) for value in evaluator.stats[: len(METRIC_NAMES)]]
    return dict(zip(METRIC_NAMES, values, strict=True))


@without_garbage_collector()
def load_results(truth: COCO, rows: Sequence[Mapping[str, Any]]) -> COCO:
    """`truth.loadRes(rows)`, vectorised; `rows` in COCO's result format stay as they are.

    Raises:
        ResultError: a row is about an image that `truth` lacks, or of another K than the others.
    """
    strangers = {row['image_id'] for row in rows} - set(truth.imgs)
    if strangers:
        raise ResultError(f'results of image id {min(strangers)}, which the ground truth lacks')
    if len({len(row['keypoints']) for row in rows}) > 1:
        raise ResultError('results with different numbers of keypoints')
    numbers = np.array([row['keypoints'] for row in rows], np.float64).reshape(len(rows), -1, 3)
    low = numbers[..., :2].min(1)
    size = numbers[..., :2].max(1) - low
    boxes, areas = np.concatenate([low, size], 1).tolist(), size.prod(1).tolist()
    results = COCO()
    results.dataset = {
        'images': truth.dataset['images'],
        'categories': truth.dataset['categories'],
        'annotations': [
            {**row, 'id': i, 'bbox': box, 'area': area}
            for i, (row, box, area) in enumerate(zip(rows, boxes, areas, strict=True), 1)
        ],
    }
    results.createIndex()
    return results


def read_truth(ann_file: Path, names: tuple[str, ...]) -> tuple[COCO, int]:
    """The ground truth and the id of its category with keypoints.

    Raises:
        DataError: other keypoints than `names`, or a person without the area that OKS needs.
    """
    content = read_json(ann_file)
    category = keypoint_category(content, ann_file)
    if tuple(category['keypoints']) != names:
        raise DataError(
            f'{ann_file}: its {len(category["keypoints"])} keypoints {category["keypoints"]} '
            f'are not those that are predicted, {list(names)}'
        )
    if any(annotation['id'] == 0 for annotation in content['annotations']):
        for i, annotation in enumerate(content['annotations'], 1):
            annotation['id'] = i  # to the evaluator a match with number 0 is none
    for annotation in content['annotations']:
        annotation.setdefault('iscrowd', 0)
        flat = annotation['keypoints'] = annotation.get('keypoints') or []
        if annotation.get('num_keypoints') is None:
            annotation['num_keypoints'] = sum(v > 0 for v in flat[2::3])
        counts = annotation['num_keypoints'] > 0 and not annotation['iscrowd']
        area = annotation.get('area')
        if counts and not (isinstance(area, int | float) and 0 < area < math.inf):
            raise DataError(
                f'{ann_file}: annotation id {annotation["id"]} has area '
                f'{area}; OKS needs the area of every person with keypoints'
            )
    return COCO(content), category['id']
