"""When PSA runs as Triton kernels, and with which blocks: the kernels are in `polarize_kernels`.

They take CUDA tensors of float32, bfloat16 or float16, contiguous or channels-last, of up to
`MAX_CHANNELS` channels. Everything else goes to plain PyTorch, as does everything with the
environment variable `PSA_POSE_TRITON=0`. With `TRITON_INTERPRET=1`, set before Triton is first
imported, they run on a CPU: slowly, for tests.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:  # which imports this module
    from psa_pose.models.attention.polarize import Options, Weights

MAX_CHANNELS = 512
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ENABLED = os.environ.get('PSA_POSE_TRITON', '1') != '0' and find_spec('triton') is not None
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'

# Values of x that one thread holds: enough bytes on their way to hide the memory's latency, few
# enough registers to keep several programs on a multiprocessor. The backward holds dy as well.
FORWARD_VALUES, BACKWARD_VALUES = 32, 16
# Programs that run at once: the H100 and the H200 have 132 multiprocessors, with registers for four
# of the largest on each. A program works on one tile while its next two are on their way.
PROGRAMS = 4 * 132
PARTS_VALUES = 8192  # that one program adds up: parts of C sums


class Blocks(NamedTuple):
    """How a pass over a map is cut up."""

    pixels: int  # of a tile
    splits: int  # programs for each image
    stages: int  # tiles on their way, and the one at work
    warps: int


def fits(x: Tensor) -> bool:
    """Whether the kernels can take x (B x C x H x W)."""
    return (
        ENABLED
        and x.dtype in DTYPES
        and (_supported(x.device) if x.is_cuda else INTERPRETED)
        and 0 < x.shape[1] <= MAX_CHANNELS
        and 0 < x.numel() < len(x) * 2**31  # offsets within an image are int32
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
    )


@lru_cache
def _supported(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)  # bfloat16


def forward(x: Tensor, weights: Weights, options: Options) -> tuple[Tensor, Tensor]:
    """The output, and one row of vectors for each image: all that `backward` needs besides x."""
    from psa_pose.models.attention import polarize_kernels as kernels

    w = _dense(weights)
    batch, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    blocks = cut(batch, channels, pixels, _last(x), FORWARD_VALUES)
    parts = _floats(x, batch * blocks.splits, 2 * channels + 2)
    vectors = _floats(x, batch, kernels.VECTORS.value * channels + kernels.SCALARS.value)
    out = torch.empty_like(x)
    tiled = _tiled(channels, _last(x), blocks)
    small = _small(channels, blocks)
    scale, sequential = options.scale, options.sequential
    grid = (batch, blocks.splits)
    with torch.cuda.device_of(x):
        kernels._pool[grid](x, w.q_right, parts, pixels, **tiled)
        kernels._vectors[(batch, 1 if sequential else 2)](
            parts,
            vectors,
            w.v_right,
            w.up,
            w.norm_weight,
            w.norm_bias,
            w.q_left,
            w.v_left,
            pixels,
            blocks.splits,
            scale,
            options.eps,
            SEQUENTIAL=sequential,
            **small,
        )
        kernels._gate[grid](x, out, vectors, pixels, scale, SEQUENTIAL=sequential, **tiled)
    return out, vectors


def backward(
    x: Tensor, weights: Weights, vectors: Tensor, options: Options, dy: Tensor
) -> tuple[Tensor, Weights]:
    """The gradients of x and, in float32, of the weights."""
    from psa_pose.models.attention import polarize_kernels_backward as kernels

    w = _dense(weights)
    batch, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    last = _last(x)
    dy = dy.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    blocks = cut(batch, channels, pixels, last, BACKWARD_VALUES)
    parts = _floats(x, batch * blocks.splits, 2 * channels)
    dvectors = _floats(x, batch, kernels.DVECTORS.value * channels + kernels.SCALARS.value)
    dws = _floats(x, 2 * channels * channels + 3 * channels)
    dx = torch.empty_like(x)
    tiled = _tiled(channels, last, blocks)
    small = _small(channels, blocks)
    scale, sequential = options.scale, options.sequential
    grid = (batch, blocks.splits)
    with torch.cuda.device_of(x):
        kernels._reduce[grid](x, dy, vectors, parts, pixels, scale, SEQUENTIAL=sequential, **tiled)
        kernels._dvectors[(batch, 1 if sequential else 2)](
            parts,
            vectors,
            dvectors,
            w.v_right,
            w.up,
            w.norm_weight,
            w.q_left,
            w.v_left,
            pixels,
            blocks.splits,
            scale,
            SEQUENTIAL=sequential,
            **small,
        )
        kernels._dx[grid](
            x,
            dy,
            dx,
            vectors,
            dvectors,
            w.q_right,
            parts,
            pixels,
            scale,
            SEQUENTIAL=sequential,
            **tiled,
        )
        side = -(-channels // 32)
        kernels._dweights[(side, side, 7)](
            vectors,
            dvectors,
            parts,
            dws,
            batch,
            blocks.splits,
            C=channels,
            BLOCK=32,
            BLOCK_R=256,
            num_stages=1,
        )
    half = channels * channels // 2
    names = ('v_right', 'q_left', 'v_left', 'up', 'q_right', 'norm_weight', 'norm_bias')
    found = dws.split([half] * 4 + [channels] * 3)
    return dx, weights._replace(**dict(zip(names, found, strict=True)))


def cut(batch: int, channels: int, pixels: int, last: bool, values: int) -> Blocks:
    """Tiles of about `values` values for each thread, programs to fill the chip once."""
    block_c = _power_of_2(channels)
    warps = 8 if block_c >= 256 else 4
    size = max(1, 32 * warps * values // block_c)
    if not last:  # neighbours in memory are pixels: a sector of float32 at least
        size = max(8, size)
    # small maps in four tiles or more, so that a batch of 32 fills the chip
    size = min(size, max(16, _power_of_2(pixels) // 4), _power_of_2(pixels))
    count = -(-pixels // size)
    splits = min(count, PARTS_VALUES // block_c, max(1, PROGRAMS // batch))
    return Blocks(size, splits, 3 if count > splits else 1, warps)


def _tiled(channels: int, last: bool, blocks: Blocks) -> dict[str, int | bool]:
    """The compile-time arguments of a pass over a map."""
    return dict(
        C=channels,
        LAST=last,
        BLOCK_C=_power_of_2(channels),
        BLOCK_N=blocks.pixels,
        STAGES=blocks.stages,
        num_warps=blocks.warps,
    )


def _small(channels: int, blocks: Blocks) -> dict[str, int]:
    """Those of a kernel of small vectors: one program reads whole matrices, many rows at a time."""
    block_c = _power_of_2(channels)
    warps = 4 if block_c <= 64 else 8 if block_c <= 128 else 16
    return dict(
        C=channels,
        BLOCK_C=block_c,
        BLOCK_P=_power_of_2(blocks.splits),
        ROWS=min(_power_of_2(channels // 2), 16 * 32 * warps // block_c),
        num_warps=warps,
    )


def _last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _dense(weights: Weights) -> Weights:
    return weights._replace(**{name: w.contiguous() for name, w in weights._asdict().items()})


def _floats(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def _power_of_2(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()
