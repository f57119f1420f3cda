"""What the paper's PSA is computed from, besides x."""

from typing import NamedTuple

import torch
from torch import Tensor


class Weights(NamedTuple):
    """1x1 convolutions as they are stored, and the affine of the LayerNorm."""

    q_right: Tensor  # Wq, 1 x C
    v_right: Tensor  # Wv, C/2 x C
    up: Tensor  # Wz, C x C/2
    norm_weight: Tensor
    norm_bias: Tensor
    q_left: Tensor  # Wq', C/2 x C
    v_left: Tensor  # Wv', C/2 x C

    def matrices(self, dtype: torch.dtype) -> 'Weights':
        return Weights(*(w.flatten(1).to(dtype) if w.dim() > 1 else w.to(dtype) for w in self))


class Options(NamedTuple):
    """What is not a tensor."""

    sequential: bool
    scale: float  # of both gates
    eps: float  # of the LayerNorm
