"""From the maximum's pixel to the peak between pixels."""

import math

import torch
from torch import Tensor

from psa_pose.codecs.blur import blur, blurred_window, may_choose


def newton_step(dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor) -> Tensor:
    """-H^-1 g, from a point to the peak of the parabola with gradient g and Hessian H there.

    Returns:
        (..., 2), the step in x and in y; 0 where H is singular.
    """
    determinant = dxx * dyy - dxy * dxy
    determinant = torch.where(determinant == 0, torch.inf, determinant)
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1)
    return step / determinant.unsqueeze(-1)


def log_window(
    maps: Tensor,
    kernel: list[float],
    pixel: Tensor,
    reach: int,
    scores: Tensor,
    low: float,
    high: float = math.inf,
) -> Tensor:
    """Logarithm of blurred maps around their maxima, where a map's maximum is what it was before.

    So says MMPose: the whole blurred map is multiplied by `scores` over its own maximum, and
    clipped. The factor falls out of every derivative of the logarithm unless it decides what is
    clipped. It is at least 1, since a blur raises no maximum, and leaves nothing above `scores`;
    so where the window lies above `low` and scores below `high`, any factor will do. Only other
    maps (next to nothing found, or noise) are blurred throughout for the true one.

    Args:
        maps: (B, K, H, W).
        kernel: odd number of weights.
        pixel: x and y of the maxima (B, K, 2), int64.
        reach: the window goes so many pixels each way.
        scores: (B, K), the maxima.
        low: values are raised to this.
        high: values are lowered to this.

    Returns:
        (B, K, 2 * reach + 1, 2 * reach + 1); flat where the blur leaves nothing above 0.
    """
    window = blurred_window(maps, kernel, pixel, reach)
    clipped = (window.amin((2, 3)) < low) | (scores > high)
    peak = window.amax((2, 3))
    if not may_choose(maps):
        peak = torch.where(clipped, blur(maps, kernel, reflect=False).amax((2, 3)), peak)
    elif (chosen := clipped & (scores > 0)).any():
        whole = blur(maps[chosen].unsqueeze(0), kernel, reflect=False)
        peak[chosen] = whole.amax((2, 3)).squeeze(0)
    factor = torch.where(peak > 0, scores / peak, 0)
    return torch.log((window * factor[..., None, None]).clamp(low, high))
