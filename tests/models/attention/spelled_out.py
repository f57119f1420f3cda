"""PSA written the long way, as in the paper and the authors' code: every C/2 x N tensor exists.

The reference for tests and benchmarks. It shares no arithmetic with `psa_pose.models.PSA`, only its
parameters, under their names. Plain modules, no care for speed or half precision.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def spelled_out(psa: nn.Module, x: Tensor) -> Tensor:
    """What `psa(x)` should be, from the three C x C/2 convolutions."""
    scale = psa.gate_scale
    y = scale * channel_gate(psa, x) * x
    if psa.layout == 'parallel':
        return y + spatial_gate(psa, x) * x
    return scale * spatial_gate(psa, y) * y


def channel_gate(psa: nn.Module, x: Tensor) -> Tensor:
    """B x C x 1 x 1."""
    q = psa.conv_q_right(x).flatten(2).softmax(dim=2)  # B x 1 x N
    v = psa.conv_v_right(x).flatten(2)  # B x C/2 x N
    z = psa.conv_up((v @ q.transpose(1, 2)).unsqueeze(-1))  # B x C x 1 x 1
    if psa.variant == 'paper':
        z = psa.norm(z.flatten(1))[:, :, None, None]
    return z.sigmoid()


def spatial_gate(psa: nn.Module, x: Tensor) -> Tensor:
    """B x 1 x H x W."""
    q = F.adaptive_avg_pool2d(psa.conv_q_left(x), 1).flatten(1)  # B x C/2
    v = psa.conv_v_left(x).flatten(2)  # B x C/2 x N
    if psa.variant == 'paper':
        q = q.softmax(dim=1)
    if psa.variant == 'official_s':
        v = v.softmax(dim=2)
    s = q.unsqueeze(1) @ v  # B x 1 x N
    if psa.variant == 'official_p':
        s = s.softmax(dim=2)
    return s.view(len(x), 1, *x.shape[2:]).sigmoid()
