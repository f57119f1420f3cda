"""Polarized Self-Attention (PSA), computed without its C/2 x H x W tensors.

Paper: Liu, Liu, Fan, Huang, "Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
2021, figure 2, https://arxiv.org/abs/2107.00782. The authors' code is DeLightCMU/PSA on GitHub.

The channel gate says *what* (one value a channel), the spatial gate says *where* (one a pixel):

    g_ch = sigmoid(LayerNorm(Wz ((Wv x) softmax_N(Wq x))))      their `right` branch, N = H*W
    g_sp = sigmoid(softmax(mean_N(Wq' x))^T (Wv' x))            their `left` branch

Deviation, in arithmetic only: every product is taken in the order that keeps it small, which is
exact. `(Wv x) q = Wv (x q)`, `q^T (Wv' x) = (Wv'^T q)^T x` and `mean(Wq' x) = Wq' mean(x)`.
"""

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psa_pose.errors import nearest
from psa_pose.models.attention.polarize import (
    gated,
    gates,
    matvec,
    no_autocast,
    polarize,
    product,
    wide_dtype,
)
from psa_pose.models.attention.polarize_inputs import Options, Weights
from psa_pose.registry import MODELS

# variant -> the layouts it comes in, its default first
LAYOUTS = {
    'paper': ('parallel', 'sequential'),
    'official_p': ('parallel',),
    'official_s': ('sequential',),
}


@MODELS.register_module()
class PSA(nn.Module):
    """Polarized Self-Attention: B x C x H x W -> the same shape, dtype and memory format.

    `layout='parallel'` returns `g_ch*x + g_sp*x`; `'sequential'` gates with g_ch first and takes
    g_sp from the result: `y = g_ch*x`, `g_sp(y)*y`. Variants:

    - `'paper'` (default): the paper's figure 2, in both layouts.
    - `'official_p'` and `'official_s'`: the authors' published segmentation code, parallel and
      sequential, for its weights. `official_p` has no LayerNorm, and its spatial gate is
      `sigmoid(softmax_N(q^T v))` with q not softmaxed. `official_s` squeezes Wz to C/8 (biases,
      LayerNorm, ReLU) and takes the spatial gate's softmax over the pixels of v, for which it
      has to compute the C/2 x N values of v.

    Parameters are named as in that code, so that its weights load by name: `conv_q_right`,
    `conv_v_right` and `conv_up` make the channel gate, `conv_q_left` and `conv_v_left` the spatial
    one. They are initialised as there: Kaiming normal (fan in) for q and v, PyTorch's default for
    `conv_up`. The convolutions only hold weights; hooks on them do not fire.

    Gates are computed in float32 (float64 for float64 inputs), under autocast and in half
    precision too. The output is finite wherever its exact value fits the dtype: in float16 the
    parallel layout, whose gates add up to at most 2, needs |x| < 32752.

    Args:
        channels: C, even (`official_s`: a multiple of 8).
        layout: 'parallel' or 'sequential'. None is 'parallel' for the paper's variant, and what
            they are for the official ones.
        variant: 'paper', 'official_p' or 'official_s'.
        identity_init: start as an exact identity, to insert PSA into a trained network ('paper'
            only). Zero weights (`norm` and `conv_v_left`) start both gates at 1/2: x/2 + x/2 in
            parallel. The sequential layout doubles both gates, then and for good:
            (2 g_ch) (2 g_sp) x. A checkpoint does not store that: load it into a module built
            with the same arguments.

    Raises:
        ValueError: arguments that do not fit; an input that is not B x C x H x W or has no pixel.
    """

    conv_up: Any  # nn.Conv2d, or the nn.Sequential of official_s
    norm: nn.LayerNorm
    handwritten_backward = True  # False leaves it to autograd: for torch.func and forward-mode AD

    def __init__(
        self,
        channels: int,
        layout: str | None = None,
        variant: str = 'paper',
        identity_init: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.variant = variant
        self.layout = _check(channels, layout, variant, identity_init)
        self.identity_init = identity_init
        self.gate_scale = 2.0 if identity_init and self.layout == 'sequential' else 1.0
        half = channels // 2
        self.conv_q_right = nn.Conv2d(channels, 1, 1, bias=False)
        self.conv_v_right = nn.Conv2d(channels, half, 1, bias=False)
        self.conv_q_left = nn.Conv2d(channels, half, 1, bias=False)
        self.conv_v_left = nn.Conv2d(channels, half, 1, bias=False)
        if variant == 'official_s':
            self.conv_up = nn.Sequential(
                nn.Conv2d(half, half // 4, 1),
                nn.LayerNorm([half // 4, 1, 1]),
                nn.ReLU(inplace=True),
                nn.Conv2d(half // 4, channels, 1),
            )
        else:
            self.conv_up = nn.Conv2d(half, channels, 1, bias=False)
        if variant == 'paper':
            self.norm = nn.LayerNorm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (self.conv_q_right, self.conv_v_right, self.conv_q_left, self.conv_v_left):
            nn.init.kaiming_normal_(conv.weight, mode='fan_in', nonlinearity='relu')
        for module in self.conv_up.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        if self.variant == 'paper':
            self.norm.reset_parameters()
        if self.identity_init:
            nn.init.zeros_(self.norm.weight)
            nn.init.zeros_(self.conv_v_left.weight)

    def extra_repr(self) -> str:
        start = ', identity_init=True' if self.identity_init else ''
        return f"{self.channels}, layout='{self.layout}', variant='{self.variant}'{start}"

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f'PSA({self.channels}) takes B x {self.channels} x H x W, not {_shape(x)}'
            )
        if x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(f'PSA needs at least one pixel, not {_shape(x)}')
        with no_autocast(x):
            return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        if self.variant == 'paper':
            return polarize(x, self._weights(), self._options(), self.handwritten_backward)
        pixels, dtype = x.flatten(2), wide_dtype(x)
        if self.variant == 'official_p':
            return gated(pixels, *self._official_p(pixels, dtype), sequential=False).view_as(x)
        _, g_sp, y = self._official_s(pixels, dtype)
        return (y * g_sp.unsqueeze(1).to(y.dtype)).view_as(x)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gates that `forward` has for x: g_ch (B x C) and g_sp (B x H x W), both scaled."""
        pixels, dtype = x.flatten(2), wide_dtype(x)
        with no_autocast(x):
            if self.variant == 'paper':
                found = gates(pixels, self._weights().matrices(dtype), self._options())
                g_ch, g_sp = found.g_ch, found.g_sp
            elif self.variant == 'official_p':
                g_ch, g_sp = self._official_p(pixels, dtype)
            else:
                g_ch, g_sp, _ = self._official_s(pixels, dtype)
        return g_ch, g_sp.unflatten(1, x.shape[2:])

    def _options(self) -> Options:
        return Options(self.layout == 'sequential', self.gate_scale, self.norm.eps)

    def _weights(self) -> Weights:
        return Weights(
            q_right=self.conv_q_right.weight,
            v_right=self.conv_v_right.weight,
            up=self.conv_up.weight,
            norm_weight=self.norm.weight,
            norm_bias=self.norm.bias,
            q_left=self.conv_q_left.weight,
            v_left=self.conv_v_left.weight,
        )

    def _official_p(self, pixels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """g_ch and g_sp."""
        v = self._pooled(pixels, dtype) @ _matrix(self.conv_v_right, dtype).T
        g_ch = (v @ _matrix(self.conv_up, dtype).T).sigmoid()
        q = pixels.mean(2, dtype=dtype) @ _matrix(self.conv_q_left, dtype).T
        logits = matvec(q @ _matrix(self.conv_v_left, dtype), pixels)
        return g_ch, logits.softmax(1).sigmoid()

    def _official_s(self, pixels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """g_ch, g_sp, and y = g_ch*x."""
        squeeze, norm, _, expand = self.conv_up
        v = self._pooled(pixels, dtype) @ _matrix(self.conv_v_right, dtype).T
        z = F.linear(v, _matrix(squeeze, dtype), squeeze.bias.to(dtype))
        scale, shift = norm.weight.flatten().to(dtype), norm.bias.flatten().to(dtype)
        z = F.layer_norm(z, scale.shape, scale, shift, norm.eps).relu()
        g_ch = F.linear(z, _matrix(expand, dtype), expand.bias.to(dtype)).sigmoid()

        y = pixels * g_ch.unsqueeze(2).to(pixels.dtype)
        q = (g_ch * pixels.mean(2, dtype=dtype)) @ _matrix(self.conv_q_left, dtype).T
        # B x C/2 x N values: this softmax does not collapse
        v = product(_matrix(self.conv_v_left, dtype), y).softmax(2)
        return g_ch, matvec(q, v).sigmoid(), y

    def _pooled(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """x q of the channel gate, B x C."""
        rows = _matrix(self.conv_q_right, dtype).expand(pixels.shape[0], -1)
        return matvec(matvec(rows, pixels).softmax(1), pixels.mT)


def _matrix(conv: nn.Conv2d, dtype: torch.dtype) -> Tensor:
    return conv.weight.flatten(1).to(dtype)


def _check(channels: int, layout: str | None, variant: str, identity_init: bool) -> str:
    """Refuse what PSA cannot be; return its layout."""
    if variant not in LAYOUTS:
        raise ValueError(_unknown('variant', variant, LAYOUTS))
    multiple = 8 if variant == 'official_s' else 2
    if channels < multiple or channels % multiple:
        raise ValueError(
            f"channels={channels} for variant='{variant}': choose a positive multiple of {multiple}"
        )
    if identity_init and variant != 'paper':
        raise ValueError(
            f"identity_init is for variant='paper': '{variant}' is for the authors' own weights"
        )
    allowed = LAYOUTS[variant]
    if layout is None:
        return allowed[0]
    if layout not in LAYOUTS['paper']:
        raise ValueError(_unknown('layout', layout, LAYOUTS['paper']))
    if layout not in allowed:
        raise ValueError(f"variant='{variant}' is {allowed[0]}, and has no layout='{layout}'")
    return layout


def _unknown(what: str, given: str, allowed: Collection[str]) -> str:
    names = ', '.join(f"'{name}'" for name in allowed)
    return f"unknown {what} '{given}': {nearest(str(given), allowed)} (allowed: {names})"


def _shape(x: Tensor) -> str:
    return ' x '.join(map(str, x.shape))
