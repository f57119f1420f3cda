"""The Triton kernels as operators of PyTorch's, through which compiled networks call them.

A compiler sees one operator for each pass, and neither takes it apart nor breaks its graph there. A
network that is not compiled does without: going through the dispatcher costs the host more time.
"""

from typing import Any

import torch
from torch import Tensor

from psa_pose.models.attention import polarize_triton
from psa_pose.models.attention.polarize_inputs import Options, Weights


@torch.library.custom_op('psa_pose::polarize', mutates_args=())
def polarize_op(
    x: Tensor, weights: list[Tensor], sequential: bool, scale: float, eps: float, last: bool
) -> tuple[Tensor, Tensor]:
    """`polarize_triton.forward`, its output channels-last or else contiguous."""
    x = x.contiguous(memory_format=_format(last))  # which it is, unless a compiler had other plans
    return polarize_triton.forward(x, Weights(*weights), Options(sequential, scale, eps))


@polarize_op.register_fake
def _(
    x: Tensor, weights: list[Tensor], sequential: bool, scale: float, eps: float, last: bool
) -> tuple[Tensor, Tensor]:
    vectors = x.new_empty(len(x), polarize_triton.row_length(x.shape[1]), dtype=torch.float32)
    return torch.empty_like(x, memory_format=_format(last)), vectors


@torch.library.custom_op('psa_pose::polarize_backward', mutates_args=())
def polarize_backward_op(
    x: Tensor,
    weights: list[Tensor],
    vectors: Tensor,
    dy: Tensor,
    sequential: bool,
    scale: float,
    eps: float,
    last: bool,
) -> tuple[Tensor, Tensor]:
    """`polarize_triton.backward`."""
    x = x.contiguous(memory_format=_format(last))
    options = Options(sequential, scale, eps)
    return polarize_triton.backward(x, Weights(*weights), vectors, options, dy)


@polarize_backward_op.register_fake
def _(
    x: Tensor,
    weights: list[Tensor],
    vectors: Tensor,
    dy: Tensor,
    sequential: bool,
    scale: float,
    eps: float,
    last: bool,
) -> tuple[Tensor, Tensor]:
    dws = x.new_empty(sum(w.numel() for w in weights), dtype=torch.float32)
    return torch.empty_like(x, memory_format=_format(last)), dws


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weights, *ctx.options = inputs
    ctx.save_for_backward(x, *weights, output[1])


def _backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Any, ...]:
    x, *weights, vectors = ctx.saved_tensors
    dx, dws = polarize_backward_op(x, weights, vectors, dy, *ctx.options)
    return dx, [*polarize_triton.parted(dws, Weights(*weights))], None, None, None, None


polarize_op.register_autograd(_backward, setup_context=_setup_context)


def _format(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format
