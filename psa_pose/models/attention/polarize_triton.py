"""When PSA runs as Triton kernels, and with which blocks: the kernels are in `polarize_kernels`.

They take CUDA tensors of float32, bfloat16 or float16, contiguous or channels-last, of up to
`MAX_CHANNELS` channels; compiled networks call them by `polarize_ops`. Everything else goes to
plain PyTorch, as does everything with the environment variable `PSA_POSE_TRITON=0`. With
`TRITON_INTERPRET=1`, set before Triton is first imported, they run on a CPU: slowly, for tests.
"""

import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from psa_pose.models.attention.polarize_inputs import Options, Weights

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


class Launch(NamedTuple):
    """How the kernels of one pass, forward or backward, are launched."""

    splits: int  # programs for each image
    tiled: dict[str, int | bool]  # compile-time arguments of a pass over a map
    small: dict[str, int]  # those of a kernel of small vectors


def fits(x: Tensor) -> bool:
    """Whether the kernels can take x (B x C x H x W)."""
    return (
        ENABLED
        and x.dtype in DTYPES
        and (_supported(x.device) if x.is_cuda else INTERPRETED)
        and 0 < x.shape[1] <= MAX_CHANNELS
        and 0 < x.numel() < len(x) * 2**31  # offsets within an image are int32
        and (x.is_contiguous() or is_last(x))
    )


def _supported(device: torch.device) -> bool:
    return _capability(device) >= (8, 0) and _compiles()  # bfloat16 from there on


# `torch.compiler.assume_constant_result`, which would import the compiler for everyone
_supported._dynamo_marked_constant = True  # type: ignore[attr-defined]
_capability = lru_cache(torch.cuda.get_device_capability)


@lru_cache
def _compiles() -> bool:
    """Whether Triton can build what it launches kernels with, in C; says so where it cannot."""
    from triton.runtime import driver

    try:
        driver.active.get_current_device()
    except Exception as error:  # it runs the compiler and loads what came of it
        print(
            'warning: PSA runs in plain PyTorch, which is slower: Triton finds no C compiler with '
            f"Python's headers ({str(error).strip().partition(chr(10))[0]}); install them (apt "
            'install gcc python3-dev), or silence this by PSA_POSE_TRITON=0',
            file=sys.stderr,
            flush=True,
        )
        return False
    return True


def is_last(x: Tensor) -> bool:
    """Whether x is channels-last."""
    return x.is_contiguous(memory_format=torch.channels_last)


def forward(x: Tensor, weights: Weights, options: Options) -> tuple[Tensor, Tensor]:
    """The output, and one row of vectors for each image: all that `backward` needs besides x."""
    from psa_pose.models.attention import polarize_kernels as kernels

    w = Weights._make(w.contiguous() for w in weights)
    sequential, scale, eps = options
    batch, channels, height, width = x.shape
    pixels = height * width
    splits, tiled, small = _launch(batch, channels, pixels, is_last(x), FORWARD_VALUES, PROGRAMS)
    parts = _floats(x, batch * splits, 2 * channels + 2)
    vectors = _floats(x, batch, row_length(channels))
    out = torch.empty_like(x)
    grid = (batch, splits)
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
            splits,
            scale,
            eps,
            SEQUENTIAL=sequential,
            **small,
        )
        kernels._gate[grid](x, out, vectors, pixels, scale, SEQUENTIAL=sequential, **tiled)
    return out, vectors


def backward(
    x: Tensor, weights: Weights, vectors: Tensor, options: Options, dy: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of x and, in float32 and in one row, of the weights; see `parted`."""
    from psa_pose.models.attention import polarize_kernels_backward as kernels

    w = Weights._make(w.contiguous() for w in weights)
    sequential, scale, _ = options
    batch, channels, height, width = x.shape
    pixels, last = height * width, is_last(x)
    dy = dy.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    splits, tiled, small = _launch(batch, channels, pixels, last, BACKWARD_VALUES, PROGRAMS)
    parts = _floats(x, batch * splits, 2 * channels)
    dvectors = _floats(x, batch, kernels.DVECTORS.value * channels + kernels.SCALARS.value)
    dws = _floats(x, 2 * channels * channels + 3 * channels)
    dx = torch.empty_like(x)
    grid = (batch, splits)
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
            splits,
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
            splits,
            C=channels,
            BLOCK=32,
            BLOCK_R=256,
            num_stages=1,
        )
    return dx, dws


def row_length(channels: int) -> int:
    """Of the vectors of one image."""
    from psa_pose.models.attention import polarize_kernels as kernels

    return kernels.VECTORS.value * channels + kernels.SCALARS.value


def parted(dws: Tensor, weights: Weights) -> Weights:
    """Each weight's gradient, in its shape and dtype, of what `backward` found."""
    q_right, v_right, up, norm_weight, norm_bias, q_left, v_left = weights
    order = (v_right, q_left, v_left, up, q_right, norm_weight, norm_bias)
    parts = dws.split([w.numel() for w in order])
    found = [part.to(w.dtype).view_as(w) for part, w in zip(parts, order, strict=True)]
    dv_right, dq_left, dv_left, dup, dq_right, dnorm_weight, dnorm_bias = found
    return Weights(dq_right, dv_right, dup, dnorm_weight, dnorm_bias, dq_left, dv_left)


@lru_cache(maxsize=1024)
def _launch(
    batch: int, channels: int, pixels: int, last: bool, values: int, programs: int
) -> Launch:
    """As `cut`; kept, as a network's blocks ask for the same in every step."""
    blocks = cut(batch, channels, pixels, last, values)
    return Launch(blocks.splits, _tiled(channels, last, blocks), _small(channels, blocks))


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


def _floats(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def _power_of_2(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()
