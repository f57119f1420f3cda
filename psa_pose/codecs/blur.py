"""Gaussian blur as products with banded matrices, of whole heatmaps or of a few pixels only."""

from functools import lru_cache

import cv2
import torch
from torch import Tensor


def blur_kernel(size: int) -> list[float]:
    """Weights of OpenCV's Gaussian of an odd size; from 11 on sigma = 0.3 (size - 1) / 2 + 0.5."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f'blur_kernel_size must be odd and positive, got {size}')
    return cv2.getGaussianKernel(size, 0).ravel().tolist()


def blur_matrix(kernel: list[float], length: int, like: Tensor, reflect: bool = False) -> Tensor:
    """(length, length), the matrix that blurs a line; shared, not to be written to.

    Args:
        kernel: odd number of weights.
        length: of the line.
        like: gives dtype and device.
        reflect: what lies beyond the line's ends: its mirror image without the end pixel
            (OpenCV's default), else 0.
    """
    make = _matrix if _recording() else _kept_matrix
    return make(tuple(kernel), length, like.dtype, like.device, reflect)


def _matrix(
    kernel: tuple[float, ...],
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    reflect: bool,
) -> Tensor:
    weights = torch.tensor(kernel, dtype=dtype, device=device)
    half = len(kernel) // 2
    pixel = torch.arange(length, device=device)
    if not reflect:
        tap = pixel - pixel.unsqueeze(1) + half
        return weights[tap.clamp(0, 2 * half)] * ((tap >= 0) & (tap <= 2 * half))
    # Where each tap of each pixel comes from: back and forth between the ends.
    period = max(2 * (length - 1), 1)
    source = (pixel.unsqueeze(1) + torch.arange(-half, half + 1, device=device)) % period
    source = torch.minimum(source, period - source) if length > 1 else source * 0
    matrix = weights.new_zeros(length, length)
    return matrix.scatter_add(1, source, weights.expand(length, -1))


# Made once: the host waits while weights that are Python's reach a GPU. A matrix made in inference
# mode would not serve who differentiates afterwards.
_kept_matrix = lru_cache(maxsize=64)(torch.inference_mode(False)(_matrix))


def blur(maps: Tensor, kernel: list[float], reflect: bool = True) -> Tensor:
    """Maps (B, K, H, W) blurred throughout, mirrored beyond their borders or 0 there."""
    height, width = maps.shape[2:]
    down = blur_matrix(kernel, height, maps, reflect)
    across = blur_matrix(kernel, width, maps, reflect).mT
    lines = maps.flatten(0, 1)
    return (torch.bmm(down.expand(lines.shape[0], -1, -1), lines) @ across).view(maps.shape)


def may_choose(maps: Tensor) -> bool:
    """Whether to blur throughout only those maps that need it.

    The choice looks at values: what records a graph may not, and a GPU would have to be waited
    for, which blurs all of them in less time.
    """
    return maps.is_cpu and not _recording()


def _recording() -> bool:
    """Whether a graph is being made, and tensors are not what they seem."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def blurred_window(maps: Tensor, kernel: list[float], pixel: Tensor, reach: int) -> Tensor:
    """What the blurred maps, 0 beyond their borders, are around one pixel of each.

    With R and C the rows of the vertical and of the horizontal blur matrix that belong to the
    window, the window is R M C^T: a map M is read once and nothing else is blurred.

    Args:
        maps: (B, K, H, W).
        kernel: odd number of weights.
        pixel: x and y (B, K, 2), int64.
        reach: the window goes so many pixels each way; beyond the map it repeats the last.

    Returns:
        (B, K, 2 * reach + 1, 2 * reach + 1).
    """
    height, width = maps.shape[2:]
    around = torch.arange(-reach, reach + 1, device=maps.device)

    def lines(at: Tensor, length: int) -> Tensor:
        places = (at.flatten().unsqueeze(-1) + around).clamp(0, length - 1)
        return blur_matrix(kernel, length, maps)[places]

    down, across = lines(pixel[..., 1], height), lines(pixel[..., 0], width)
    window = torch.bmm(torch.bmm(down, maps.flatten(0, 1)), across.mT)
    return window.unflatten(0, maps.shape[:2])
