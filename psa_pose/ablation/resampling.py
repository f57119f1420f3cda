"""Numbers of an evaluation on resampled images: how much they owe to which persons were asked.

An image counts as often as its weight says. OKS-AP matches persons within an image, and PCK counts
them, so neither has to look at a pixel, nor match again.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.evaluation import CocoMetric, PCKAccuracy, PoseMetric
from psa_pose.evaluation.coco_ap import MAX_DETECTIONS, load_results, read_truth
from psa_pose.evaluation.coco_oks import oks_by_image
from psa_pose.evaluation.distances import normalised

_THRESHOLDS = {'AP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)}


@dataclass(frozen=True)
class Resampler:
    """A number of an evaluation as a function of how often each image counts.

    Attributes:
        image_ids: (I,), ascending: all images of the ground truth, those without persons as well.
        values: from weights (R, I) to the numbers (R,).
    """

    image_ids: np.ndarray
    values: Callable[[np.ndarray], np.ndarray]


def resampler(metric: PoseMetric, name: str) -> Resampler | None:
    """The number `name` of a metric on resampled images; None for numbers that it is not known of.

    Args:
        metric: with the predictions of an evaluation.
        name: of AP, AP50, AP75, PCK, tPCK or PCKh, with its prefix where it has one.
    """
    for part, names in metric.parts({n: n for n in metric.names}):
        for own, shown in names.items():
            if shown != name:
                continue
            if isinstance(part, CocoMetric) and own in _THRESHOLDS:
                return _average_precision(part, _THRESHOLDS[own])
            if isinstance(part, PCKAccuracy):
                return _pck(part, part.norm_items[part.names.index(own)])
    return None


def _average_precision(metric: CocoMetric, thresholds: slice) -> Resampler:
    """COCO's AP: matched by pycocotools, accumulated with weights as it does with counts."""
    evaluator = _matched(metric)
    ids = np.array(sorted(evaluator.cocoGt.imgs))
    images: list[int] = []
    scores: list[float] = []
    kinds = len(evaluator.params.iouThrs[thresholds])
    matched, ignored = ([np.zeros((kinds, 0), bool)] for _ in range(2))
    persons = np.zeros(len(ids))
    for found in evaluator.evalImgs:
        if found is None:
            continue
        i = int(np.searchsorted(ids, found['image_id']))
        persons[i] += np.count_nonzero(np.asarray(found['gtIgnore']) == 0)
        count = len(found['dtScores'])
        images += [i] * count
        scores += list(found['dtScores'])
        matched.append(np.asarray(found['dtMatches'])[thresholds].reshape(kinds, count) > 0)
        ignored.append(np.asarray(found['dtIgnore'])[thresholds].reshape(kinds, count) > 0)
    order = np.argsort(-np.array(scores), kind='mergesort')
    image = np.array(images, int)[order]
    hit, out = (np.concatenate(part, 1)[:, order] for part in (matched, ignored))
    right, wrong = hit & ~out, ~hit & ~out
    recalls = evaluator.params.recThrs

    def values(weights: np.ndarray) -> np.ndarray:
        return np.array([_ap(w[image], right, wrong, w @ persons, recalls) for w in weights])

    return Resampler(ids, values)


def _ap(
    weight: np.ndarray, right: np.ndarray, wrong: np.ndarray, persons: float, recalls: np.ndarray
) -> float:
    """Mean over thresholds of the interpolated precision at the recalls."""
    if persons == 0:
        return -1.0
    hits, misses = np.cumsum(right * weight, 1), np.cumsum(wrong * weight, 1)
    recall, precision = hits / persons, hits / np.maximum(hits + misses, np.spacing(1.0))
    best_after = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    total = 0.0
    for row, best in zip(recall, best_after, strict=True):
        at = np.searchsorted(row, recalls, side='left')
        total += best[at[at < len(best)]].sum()
    return total / (len(recalls) * len(recall))


class _GivenOKS(COCOeval):
    """The evaluator, spared its loop over images for OKS; `given` is as of `oks_by_image`."""

    given: Mapping[int, np.ndarray]

    def computeOks(self, imgId: int, catId: int) -> Sequence[float] | np.ndarray:  # noqa: N802, N803
        return self.given.get(imgId, [])


def _matched(metric: CocoMetric) -> COCOeval:
    """Which detection is whose, by image; COCO looks at the best `MAX_DETECTIONS` of each."""
    sigmas = metric.dataset.info.sigmas
    truth, category = read_truth(metric.ann_file, metric.dataset.info.names)
    found = load_results(truth, metric.results())
    with redirect_stdout(io.StringIO()):  # pycocotools says what it does
        theirs = []
        for content in (truth, found):
            theirs.append(COCO())
            theirs[-1].dataset = content.dataset
            theirs[-1].createIndex()
        evaluator = _GivenOKS(*theirs, 'keypoints')
        evaluator.given = oks_by_image(truth, found, category, sigmas, MAX_DETECTIONS)
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.params.catIds = [category]
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
    return evaluator


def _pck(metric: PCKAccuracy, item: str) -> Resampler:
    """PCK by the size `item`: the mean over keypoints of the share that is right."""
    scaled, counted = normalised(metric.distances(), metric.labelled, metric.sizes[item])
    ids = np.unique(metric.dataset.persons.image_id)
    image = np.searchsorted(ids, metric.dataset.persons.image_id)
    right, labelled = (np.zeros((len(ids), counted.shape[1])) for _ in range(2))
    np.add.at(right, image, counted & (scaled < metric.thr))
    np.add.at(labelled, image, counted)

    def values(weights: np.ndarray) -> np.ndarray:
        hits, totals = weights @ right, weights @ labelled
        shares = np.divide(hits, totals, out=np.full_like(hits, np.nan), where=totals > 0)
        known = ~np.isnan(shares)
        sums, counts = np.where(known, shares, 0).sum(1), known.sum(1)
        return np.where(counts > 0, sums / np.maximum(counts, 1), -1.0)

    return Resampler(ids, values)
