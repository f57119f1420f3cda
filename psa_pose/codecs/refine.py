"""From the maximum's pixel to the peak between pixels."""

import torch
from torch import Tensor


def newton_step(dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor) -> Tensor:
    """-H^-1 g, from a point to the peak of the parabola with gradient g and Hessian H there.

    Returns:
        (..., 2), the step in x and in y; 0 where H is singular.
    """
    determinant = dxx * dyy - dxy * dxy
    determinant = torch.where(determinant == 0, torch.inf, determinant)
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1)
    return step / determinant.unsqueeze(-1)


def log_window(window: Tensor, scores: Tensor, low: float, high: float | None = None) -> Tensor:
    """Logarithm of a blurred window whose maximum is brought back to what it was before.

    MMPose divides by the whole blurred map's maximum, here it is the window's: a factor that falls
    out of every derivative of the logarithm, and acts where `low` or `high` cuts only. That is
    where the blur leaves next to nothing of a maximum: noise from about 0.3 times the peak on.

    Args:
        window: (B, K, N, N), blurred heatmaps around their maxima.
        scores: (B, K), the maxima before the blur.
        low: values are raised to this.
        high: values are lowered to this.
    """
    peak = window.amax((2, 3))
    factor = torch.where(peak > 0, scores / peak, 0)
    return torch.log((window * factor[..., None, None]).clamp(low, high))
