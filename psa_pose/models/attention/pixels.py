"""What blocks that attend over all pixels share: maps as rows of pixels, and back."""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_map(x: Tensor, channels: int, name: str) -> None:
    """Refuse what is not a B x `channels` x H x W map with a pixel; `name` is the block's."""
    if x.dim() != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
        shape = ' x '.join(map(str, x.shape))
        raise ValueError(
            f'{name}({channels}) takes B x {channels} x H x W with at least one pixel, not {shape}'
        )


def to_rows(x: Tensor) -> Tensor:
    """B x C x H x W -> B x N x C, contiguous: a view of a channels-last map, a copy of others."""
    return x.flatten(2).mT.contiguous()


def to_map(rows: Tensor, like: Tensor) -> Tensor:
    """B x N x C -> the shape, dtype and memory format of `like`."""
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    memory_format = torch.channels_last if last else torch.contiguous_format
    return rows.mT.reshape(like.shape).to(like.dtype).contiguous(memory_format=memory_format)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int = 1) -> Tensor:
    """`softmax(q k^T / sqrt(d)) v` of B x N x C rows, d = C / heads: B x N x C.

    No N x N matrix is kept wherever PyTorch has a fused kernel: float32 and half precision on GPUs,
    and float64 as well on CPUs. That needs q, k and v of one width, whose last stride is 1.
    """
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
