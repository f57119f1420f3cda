"""Dense attention over channels and over pixels, for comparison with PSA.

Some texts call this quadratic block polarized self-attention; the paper's is `psa.py`. For the
N = H*W pixels of x, with all matrices C x C and without bias:

    channel   q = Wq mean_N(x), k = Wk mean_N(x), A = softmax_rows(q k^T), C x C;   A (Wv x)
    spatial   Q, K, V = Wq' x, Wk' x, Wv' x;                          softmax(Q K^T / sqrt(d)) V

These are 5 C^2 N + 2 C N^2 + 2 C^2 multiply-adds, where PSA needs 3 C N + 2 C^2.
"""

import torch
from torch import Tensor, nn

from psa_pose.errors import nearest
from psa_pose.models.attention.pixels import attend, check_map, to_map, to_rows
from psa_pose.registry import MODELS

FUSIONS = ('sum', 'gated')


@MODELS.register_module()
class DensePSA(nn.Module):
    """B x C x H x W -> the same shape, dtype and memory format; no shortcut, x is not added.

    What is kept for the backward grows with N and C^2, not with N^2 (see `pixels.attend`), and a
    second derivative does not exist where PyTorch's fused attention has none.

    Args:
        channels: C, a multiple of `heads`.
        heads: of the spatial branch; d = C / heads.
        fusion: 'sum' of the two branches, or 'gated': `g*channel + (1 - g)*spatial` with a g of
            (0, 1) learned for each channel, 1/2 at first.

    Raises:
        ValueError: arguments that do not fit; an input that is not B x C x H x W or has no pixel.
    """

    def __init__(self, channels: int, heads: int = 1, fusion: str = 'sum') -> None:
        super().__init__()
        if heads < 1 or channels < 1 or channels % heads:
            raise ValueError(f'channels={channels}, heads={heads}: heads must divide channels')
        if fusion not in FUSIONS:
            hint = nearest(str(fusion), FUSIONS)
            raise ValueError(f"unknown fusion '{fusion}': {hint} (allowed: 'sum', 'gated')")
        self.channels, self.heads, self.fusion = channels, heads, fusion
        self.channel_q = nn.Linear(channels, channels, bias=False)
        self.channel_k = nn.Linear(channels, channels, bias=False)
        self.channel_v = nn.Linear(channels, channels, bias=False)
        self.spatial_q = nn.Linear(channels, channels, bias=False)
        self.spatial_k = nn.Linear(channels, channels, bias=False)
        self.spatial_v = nn.Linear(channels, channels, bias=False)
        self.gate = nn.Parameter(torch.zeros(channels)) if fusion == 'gated' else None

    def extra_repr(self) -> str:
        return f"{self.channels}, heads={self.heads}, fusion='{self.fusion}'"

    def forward(self, x: Tensor) -> Tensor:
        check_map(x, self.channels, 'DensePSA')
        rows = to_rows(x)  # B x N x C, so that every Linear is one over channels
        channel, spatial = self._channel(rows), self._spatial(rows)
        if self.gate is None:
            return to_map(channel + spatial, like=x)
        return to_map(torch.lerp(spatial, channel, self.gate.sigmoid().to(spatial.dtype)), like=x)

    def _channel(self, rows: Tensor) -> Tensor:
        mean = rows.mean(1)
        q, k = self.channel_q(mean), self.channel_k(mean)
        attention = (q.unsqueeze(2) * k.unsqueeze(1)).softmax(2)  # B x C x C
        return self.channel_v(rows) @ attention.mT

    def _spatial(self, rows: Tensor) -> Tensor:
        return attend(self.spatial_q(rows), self.spatial_k(rows), self.spatial_v(rows), self.heads)
