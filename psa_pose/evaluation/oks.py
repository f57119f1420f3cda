"""Object keypoint similarity between predictions, and suppression by it."""

from collections.abc import Sequence

import numpy as np


def oks(
    keypoints: np.ndarray,
    others: np.ndarray,
    area: float,
    areas: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """OKS of one prediction with others, over all keypoints (Lin et al. 2014; HRNet's `oks_iou`).

    Args:
        keypoints: (K, 2) in pixels.
        others: (M, K, 2).
        area: of the prediction, in pixels squared.
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
) -> np.ndarray:
    """Greedy suppression of one image's predictions that are alike.

    Args:
        keypoints: (N, K, 2) in pixels.
        scores: (N,).
        areas: (N,) in pixels squared.
        sigmas: (K,).
        threshold: a prediction whose OKS with a better one exceeds it is dropped.

    Returns:
        Indices of those that stay, best first.
    """
    order = np.argsort(-scores, kind='stable')
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        similarity = oks(keypoints[best], keypoints[rest], areas[best], areas[rest], sigmas)
        order = rest[similarity <= threshold]
    return np.array(keep, np.int64)
