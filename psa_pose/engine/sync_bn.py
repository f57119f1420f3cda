"""BatchNorm over the batches of all ranks: `sync_bn = 'torch'`, MMEngine's words.

A rank's batch is what fits on a device; small ones make poor statistics. On a GPU it is PyTorch's
SyncBatchNorm. That refuses a CPU, and so does DDP; there the same numbers come from one all-reduce
of sums, so that the switch means the same everywhere.
"""

from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from psa_pose.errors import ConfigError


def sync_batch_norms(model: nn.Module, cfg: Config, ranks: int, device: str) -> None:
    """Synchronise a model's BatchNorms where the config says so; names stay the same.

    Before `freeze`, which keeps hold of modules.

    Args:
        model: with BatchNorms.
        cfg: the whole config; `sync_bn` is read.
        ranks: that train together; nothing changes for one.
        device: that it will train on, such as 'cuda'.

    Raises:
        ConfigError: neither 'torch' nor None.
    """
    kind = cfg.get('sync_bn')
    if kind not in (None, 'torch'):
        hint = "; mmcv's needs compiled ops and computes the same" if kind == 'mmcv' else ''
        raise ConfigError(f"sync_bn must be 'torch' or None, got {kind!r}{hint}")
    if kind is None or ranks == 1:
        return
    if device != 'cpu':
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = CPUSyncBatchNorm  # which has the same state


def is_synchronised(norm: _BatchNorm) -> bool:
    """Whether its running statistics are the same on all ranks."""
    return isinstance(norm, nn.SyncBatchNorm | CPUSyncBatchNorm)


class CPUSyncBatchNorm(_BatchNorm):
    """What `torch.nn.SyncBatchNorm` computes, where that does not run."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # what it took the place of knew

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by mean and variance over all ranks' batches, whatever their sizes.

        Args:
            x: (B, C, ...), at least one value of each channel.
        """
        if not self.training:
            return super().forward(x)
        values = x.float()
        # In float64 nothing is lost where the mean is large beside the deviation.
        moments = torch.var_mean(values, [0, *range(2, x.dim())], correction=0)
        var, mean = (m.double() for m in moments)
        count = mean.new_full((1,), values.numel() / len(mean))
        own = torch.cat([mean, var + mean.square(), torch.ones_like(count)]) * count
        *sums, count = _SumOverRanks.apply(own).split([len(mean), len(mean), 1])
        mean, square = (s / count for s in sums)
        var = square - mean.square()
        if self.track_running_stats:
            self._track(mean, var * count / (count - 1))
        scale = torch.rsqrt(var + self.eps)
        scale = scale * self.weight if self.affine else scale
        shift = self.bias if self.affine else torch.zeros_like(mean)
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean, scale, shift = (v.to(values.dtype).view(shape) for v in (mean, scale, shift))
        return torch.addcmul(shift, values - mean, scale).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for buffer, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert buffer is not None
            buffer.lerp_(value.to(buffer.dtype), share)


class _SumOverRanks(torch.autograd.Function):
    """`torch.distributed.nn`'s all_reduce, which is deprecated."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        distributed.all_reduce(total)
        return total
