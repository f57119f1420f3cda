"""The arithmetic of the paper's PSA in a few passes over x, and its hand-written backward.

Autograd would keep several C x N maps for each image and add up as many gradients of x; `_Polarize`
keeps x and vectors, and writes the gradient into one buffer. Names, for N pixels:

    channel gate   q = softmax_N(Wq x), u = x q, v = Wv u, z = Wz v, g_ch = sigmoid(LayerNorm(z))
    spatial gate   p = softmax(Wq' mean(x)), t = Wv'^T p, g_sp = sigmoid(t^T x)

The spatial gate of the sequential layout sees y = g_ch*x, which need not exist: mean(y) is
g_ch*mean(x), and t^T y is (g_ch*t)^T x.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from psa_pose.models.attention import polarize_triton
from psa_pose.models.attention.polarize_inputs import Options, Weights
from psa_pose.models.attention.polarize_ops import polarize_op


class Vectors(NamedTuple):
    """What one forward pass leaves behind: vectors of C, C/2 or N values for each image."""

    q: Tensor
    u: Tensor
    v: Tensor  # Wv u
    z: Tensor
    z_mean: Tensor
    z_rstd: Tensor
    g_ch: Tensor
    mean: Tensor
    p: Tensor
    t: Tensor
    g_sp: Tensor


def wide_dtype(x: Tensor) -> torch.dtype:
    """In which vectors are computed: float32, or float64 if x is."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Autocast would round logits and gates; the dtypes here are chosen by hand."""
    kind = x.device.type
    if torch.compiler.is_dynamo_compiling():  # torch 2.11's cannot trace the question
        return torch.autocast(kind, enabled=False)
    active = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if active else nullcontext()


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows` (R x K, or B x R x K) times `matrix` (B x K x M, a map or its transpose), wide.

    A half-precision map is read as it is, not copied to float32: rows of unit L1 norm keep every
    sum within the range of the map, where float16 would overflow.
    """
    multiply = torch.bmm if rows.dim() == 3 else _convolution
    if matrix.dtype == rows.dtype:
        return multiply(rows, matrix)
    norm = rows.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return multiply((rows / norm).to(matrix.dtype), matrix).to(rows.dtype) * norm


def _convolution(rows: Tensor, matrix: Tensor) -> Tensor:
    """The same rows for every image: their gradient is one sum, where bmm's is one an image."""
    return F.conv1d(matrix, rows.unsqueeze(2))


def matvec(row: Tensor, matrix: Tensor) -> Tensor:
    """B x K times B x K x M: B x M."""
    return product(row.unsqueeze(1), matrix).squeeze(1)  # the row on the left: bmm's fast side


def gates(pixels: Tensor, w: Weights, options: Options) -> Vectors:
    """Both gates of B x C x N `pixels`, and all that led to them."""
    batch, channels, _ = pixels.shape
    q = matvec(w.q_right.expand(batch, channels), pixels).softmax(1)
    u = matvec(q, pixels.mT)
    v = u @ w.v_right.T
    z = v @ w.up.T
    h, z_mean, z_rstd = torch.native_layer_norm(
        z, (channels,), w.norm_weight, w.norm_bias, options.eps
    )
    g_ch = options.scale * h.sigmoid()
    mean = pixels.mean(2, dtype=q.dtype)
    p = ((g_ch * mean if options.sequential else mean) @ w.q_left.T).softmax(1)
    t = p @ w.v_left
    g_sp = options.scale * matvec(g_ch * t if options.sequential else t, pixels).sigmoid()
    return Vectors(q, u, v, z, z_mean, z_rstd, g_ch, mean, p, t, g_sp)


def gated(x: Tensor, g_ch: Tensor, g_sp: Tensor, sequential: bool) -> Tensor:
    """`(g_ch + g_sp)*x`, or `g_ch*g_sp*x`, of B x C x N pixels."""
    g_ch, g_sp = g_ch.unsqueeze(2).to(x.dtype), g_sp.unsqueeze(1).to(x.dtype)
    return x * (g_ch * g_sp if sequential else g_ch + g_sp)


def _gate_into(out: Tensor, g_ch: Tensor, g_sp: Tensor, sequential: bool) -> Tensor:
    """What `gated` multiplies with, in the memory, the strides and the dtype of `out`."""
    g_ch, g_sp = g_ch.unsqueeze(2).to(out.dtype), g_sp.unsqueeze(1).to(out.dtype)
    return (torch.mul if sequential else torch.add)(g_ch, g_sp, out=out)


def polarize(x: Tensor, weights: Weights, options: Options, fused: bool = True) -> Tensor:
    """The paper's PSA of x (B x C x H x W); `fused` takes the hand-written backward for autograd's.

    That is Triton kernels, forward and backward, where `polarize_triton.fits`, in compiled networks
    too. Compilers get the plain operations of everything else, and exporters of all.
    """
    if fused and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return _Polarize.apply(x, options, *weights)
    if fused and torch.compiler.is_dynamo_compiling() and polarize_triton.fits(x):
        return polarize_op(x, list(weights), *options, polarize_triton.is_last(x))[0]
    pixels = x.flatten(2)  # a view in both memory formats
    vectors = gates(pixels, weights.matrices(wide_dtype(x)), options)
    return gated(pixels, vectors.g_ch, vectors.g_sp, options.sequential).view_as(x)


class _Polarize(Function):
    @staticmethod
    def forward(ctx, x: Tensor, options: Options, *weights: Tensor) -> Tensor:
        ctx.options = options
        ctx.triton = polarize_triton.fits(x)
        if ctx.triton:
            out, kept = polarize_triton.forward(x, Weights(*weights), options)
            ctx.save_for_backward(x, *weights, kept)
            return out
        pixels = x.flatten(2)
        vectors = gates(pixels, Weights(*weights).matrices(wide_dtype(x)), options)
        ctx.save_for_backward(x, *weights, *vectors)
        out = torch.empty_like(pixels)
        _gate_into(out, vectors.g_ch, vectors.g_sp, options.sequential).mul_(pixels)
        return out.view_as(x)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        weights, kept = Weights(*tensors[:7]), tensors[7:]
        if torch.is_grad_enabled():  # create_graph: let autograd differentiate this step too
            inputs = [t for t in (x, *weights) if t.requires_grad]
            out = polarize(x, weights, ctx.options, fused=False)
            grads = iter(torch.autograd.grad(out, inputs, dy, create_graph=True))
            found = [next(grads) if t.requires_grad else None for t in (x, *weights)]
            return found[0], None, *found[1:]
        if ctx.triton:
            dx, row = polarize_triton.backward(x, weights, kept[0], ctx.options, dy)
            dws = polarize_triton.parted(row, weights)
        else:
            with no_autocast(x):
                w = weights.matrices(wide_dtype(x))
                dx, dws = _backward(x, w, Vectors(*kept), ctx.options, dy)
            dws = Weights(*(d.to(w.dtype).view_as(w) for d, w in zip(dws, weights, strict=True)))
        return dx, None, *dws


def _backward(
    x: Tensor, w: Weights, s: Vectors, options: Options, dy: Tensor
) -> tuple[Tensor, Weights]:
    """`dname` is the gradient of what `gates` calls `name`."""
    pixels, dy = x.flatten(2), dy.flatten(2)
    sequential, scale, wide = options.sequential, options.scale, s.q.dtype
    buffer = pixels.to(wide) * dy
    if sequential:
        dg_ch, dg_sp = matvec(s.g_sp, buffer.mT), matvec(s.g_ch, buffer)
    else:
        dg_ch, dg_sp = buffer.sum(2), buffer.sum(1)

    # spatial gate
    t, mean = s.t, s.mean
    dlogits = _sigmoid_backward(dg_sp, s.g_sp, scale)
    dt = matvec(dlogits, pixels.mT)
    if sequential:
        dg_ch += dt * t
        dt, t, mean = s.g_ch * dt, s.g_ch * t, s.g_ch * mean
    dv_left = s.p.T @ dt
    dp = torch._softmax_backward_data(dt @ w.v_left.T, s.p, 1, wide)
    dq_left = dp.T @ mean
    dmean = dp @ w.q_left
    if sequential:
        dg_ch += dmean * s.mean
        dmean = s.g_ch * dmean

    # channel gate
    dz, dnorm_weight, dnorm_bias = torch.ops.aten.native_layer_norm_backward(
        _sigmoid_backward(dg_ch, s.g_ch, scale),
        s.z,
        s.z.shape[1:],
        s.z_mean,
        s.z_rstd,
        w.norm_weight,
        w.norm_bias,
        [True, True, True],
    )
    dup = dz.T @ s.v
    dv = dz @ w.up
    dv_right = dv.T @ s.u
    du = dv @ w.v_right
    dq = torch._softmax_backward_data(matvec(du, pixels), s.q, 1, wide)
    dq_right = matvec(dq, pixels.mT).sum(0)

    # x: through the product with the gates, through the mean, and three outer products in one pass
    dx = _gate_into(buffer, s.g_ch, s.g_sp, sequential)
    torch.addcmul((dmean / pixels.shape[2]).unsqueeze(2), dx, dy, out=dx)
    by_channel = torch.stack([t, du, w.q_right.expand_as(du)], 2)
    dx.baddbmm_(by_channel, torch.stack([dlogits, s.q, dq], 1))
    dws = Weights(dq_right, dv_right, dup, dnorm_weight, dnorm_bias, dq_left, dv_left)
    return dx.to(x.dtype).view_as(x), dws


def _sigmoid_backward(dg: Tensor, g: Tensor, scale: float) -> Tensor:
    """Through `g = scale * sigmoid(h)`, to h."""
    return torch.ops.aten.sigmoid_backward(scale * dg, g / scale)
