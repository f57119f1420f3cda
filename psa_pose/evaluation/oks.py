"""Object keypoint similarity between predictions, and suppression by it, of many images at once."""

import math
from collections.abc import Callable, Sequence

import numpy as np


def oks(
    keypoints: np.ndarray,
    others: np.ndarray,
    area: float | np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """OKS of predictions with others, over all keypoints (Lin et al. 2014; HRNet's `oks_iou`).

    Args:
        keypoints: (K, 2) in pixels, one for all others, or (M, K, 2), one for each.
        others: (M, K, 2).
        area: of the prediction(s), in pixels squared; a number or (M,).
        areas: (M,) of the others.
        sigmas: (K,), see `KeypointInfo`.

    Returns:
        (M,) in [0, 1].
    """
    variances = (2 * np.asarray(sigmas)) ** 2
    squared = ((others - keypoints) ** 2).sum(-1)
    mean_area = ((area + areas) / 2 + np.spacing(1))[:, None]
    return np.exp(-squared / variances / mean_area / 2).mean(-1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
    threshold: float = 0.9,
    images: np.ndarray | None = None,
) -> np.ndarray:
    """Greedy suppression of predictions of one image that are alike.

    Args:
        keypoints: (N, K, 2) in pixels.
        scores: (N,).
        areas: (N,) in pixels squared.
        sigmas: (K,).
        threshold: a prediction whose OKS with a better one exceeds it is dropped.
        images: (N,) whole numbers that tell the images apart; by default all are of one.

    Returns:
        Indices of those that stay: image after image in ascending order, best first in each.
    """

    def drop(rest: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        return rest[similarity <= threshold]

    return _rounds(keypoints, scores, areas, sigmas, images, drop)


def soft_oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
    threshold: float = 0.9,
    images: np.ndarray | None = None,
    max_dets: int = 20,
) -> np.ndarray:
    """Choose the best of an image, those like an earlier choice being worth less each time.

    As in HRNet and MMPose, the lowered scores (by the factor exp(-OKS^2 / threshold)) decide who is
    chosen and in which order; they do not replace the scores in the results.

    Args:
        keypoints: (N, K, 2) in pixels.
        scores: (N,).
        areas: (N,) in pixels squared.
        sigmas: (K,).
        threshold: the smaller, the less is left of the score of a prediction like a chosen one.
        images: as of `oks_nms`.
        max_dets: predictions that stay in an image, at most; COCO counts 20.

    Returns:
        Indices of those that stay: image after image in ascending order, as chosen in each.
    """
    lowered = np.array(scores, np.float64)

    def rescore(rest: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        lowered[rest] *= np.exp(-(similarity**2) / threshold)
        group = np.zeros(len(rest)) if images is None else images[rest]
        return rest[np.lexsort((-lowered[rest], group))]

    return _rounds(keypoints, scores, areas, sigmas, images, rescore, max_dets)


def _rounds(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
    images: np.ndarray | None,
    update: Callable[[np.ndarray, np.ndarray], np.ndarray],
    limit: float = math.inf,
) -> np.ndarray:
    """Keep the best of every image, update the rest by their OKS with it, and again.

    A round treats all images together: thousands of images with a few predictions each would
    otherwise spend their time in Python.
    """
    image = np.zeros(len(scores), np.int64) if images is None else np.asarray(images)
    rest = np.lexsort((-np.asarray(scores), image))  # stable: equal scores keep their order
    kept = [rest[:0]]  # one entry more than rounds
    while len(rest) and len(kept) <= limit:
        is_best = np.diff(image[rest], prepend=image[rest[0]] - 1) != 0
        best = rest[is_best]
        kept.append(best)
        best_of = best[np.cumsum(is_best) - 1][~is_best]
        rest = rest[~is_best]
        similarity = oks(keypoints[best_of], keypoints[rest], areas[best_of], areas[rest], sigmas)
        rest = update(rest, similarity)
    order = np.concatenate(kept)
    return order[np.argsort(image[order], kind='stable')].astype(np.int64)
