"""Where heatmaps are highest."""

import math

import torch
from torch import Tensor


def maximum(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Each map's first maximum, row by row: x and y (B, K, 2), int64, and its value (B, K).

    Args:
        heatmaps: (B, K, H, W), contiguous.
    """
    (batch, count), (height, width) = heatmaps.shape[:2], heatmaps.shape[2:]
    # A maximum without its place is several times as fast as one with it: first the best of
    # the map's parts, then its place in that part alone.
    length = _part(height * width)
    parts = heatmaps.view(batch * count, height * width // length, length)
    values, part = parts.amax(-1).max(-1)
    each = torch.arange(batch * count, device=heatmaps.device)
    index = part * length + parts[each, part].argmax(-1)
    pixel = torch.stack([index % width, index // width], -1)
    return pixel.view(batch, count, 2), values.view(batch, count)


def _part(size: int) -> int:
    """The smallest divisor from 1.5 times the root on, about where the two searches cost least."""
    least = min(size, math.ceil(1.5 * math.sqrt(size)))
    return next(d for d in range(least, size + 1) if size % d == 0)
