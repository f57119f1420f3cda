"""From the maximum's pixel to the peak between pixels."""

import torch
from torch import Tensor


def newton_step(
    dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor
) -> tuple[Tensor, ...]:
    """-H^-1 g, from a point to the peak of the parabola with gradient g and Hessian H there.

    Returns:
        The step in x and in y; 0 where H is singular.
    """
    determinant = dxx * dyy - dxy * dxy
    singular = determinant == 0
    determinant = torch.where(singular, torch.inf, determinant)
    return (dxy * dy - dyy * dx) / determinant, (dxy * dx - dxx * dy) / determinant


def log_window(window: Tensor, scores: Tensor, low: float, high: float | None = None) -> Tensor:
    """Logarithm of a blurred window whose maximum is brought back to what it was before.

    MMPose divides by the blurred map's maximum, here it is the window's: a factor that falls out
    of every derivative of the logarithm, and acts where `low` or `high` cuts only.

    Args:
        window: (B, K, N, N), blurred heatmaps around their maxima.
        scores: (B, K), the maxima before the blur.
        low: values are raised to this.
        high: values are lowered to this.
    """
    peak = window.amax((2, 3))
    factor = torch.where(peak > 0, scores / peak, 0)
    return torch.log((window * factor[..., None, None]).clamp(low, high))
