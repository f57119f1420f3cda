"""Gaussians on heatmaps, each as the product of two vectors."""

import torch
from torch import Tensor


def gaussian_heatmaps(
    center: Tensor,
    visible: Tensor,
    size: tuple[int, int],
    sigma: float,
    cut: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """exp(-((i - x)^2 + (j - y)^2) / (2 sigma^2)) at every pixel (i, j) of every map.

    Args:
        center: x and y (B, K, 2) of the Gaussians, in heatmap pixels.
        visible: (B, K); where it is 0 the map is 0.
        size: (width, height) of the maps.
        sigma: in heatmap pixels.
        cut: x and y (B, K, 2); beyond 3 sigma of it, in x or in y, the map is 0.

    Returns:
        Heatmaps (B, K, H, W), and weights (B, K): `visible`, and 0, with a map of 0, where no
        pixel lies within 3 sigma of `cut`, or of `center` where there is none.
    """
    radius = 3 * sigma
    weights = visible
    lines = []
    abouts = center if cut is None else cut
    for middle, about, length in zip(center.unbind(-1), abouts.unbind(-1), size, strict=True):
        weights = weights * ((about >= -radius) & (about <= length - 1 + radius))
        line = torch.exp(offsets(middle, length).square() / (-2 * sigma**2))
        if cut is not None:
            line = line * (offsets(about, length).abs() <= radius)
        lines.append(line)
    columns, rows = lines
    # A Gaussian is separable: two short vectors and one product instead of K x H x W exponents.
    rows = rows * (weights > 0).unsqueeze(-1)
    return rows.unsqueeze(-1) * columns.unsqueeze(-2), weights


def offsets(center: Tensor, length: int) -> Tensor:
    """(..., length), from each pixel of a line to the centres (...) on it."""
    pixels = torch.arange(length, dtype=center.dtype, device=center.device)
    return center.unsqueeze(-1) - pixels


def nearest_pixel(x: Tensor) -> Tensor:
    """Halves upwards. The field cuts x + 0.5 off: the same, but 1 more below -0.5."""
    return torch.floor(x + 0.5)
