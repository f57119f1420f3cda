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
    if device == 'cuda':
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = CPUSyncBatchNorm  # which has the same state


def is_synchronised(norm: _BatchNorm) -> bool:
    """Whether its running statistics are the same on all ranks."""
    return isinstance(norm, nn.SyncBatchNorm | CPUSyncBatchNorm)


OWN = 1e-12  # added to a variance whose inverse root is taken


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
        y, mean, unbiased = _AllRanks.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, unbiased)
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for buffer, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert buffer is not None
            buffer.lerp_(value.to(buffer.dtype), share)


class _AllRanks(torch.autograd.Function):
    """PyTorch's kernels of one rank, given the sums over all ranks: one all-reduce each way.

    A channel's numbers are float64: nothing is lost where its mean is far from zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        ctx.dtype, x = x.dtype, x.float()
        _, mean, invstd = torch.native_batch_norm(x, None, None, None, None, True, 0.0, OWN)
        mean, var = mean.double(), invstd.double().pow(-2) - OWN
        count = mean.new_full((1,), x.numel() / len(mean))
        own = torch.cat([mean, var + mean.square(), torch.ones_like(count)]) * count
        distributed.all_reduce(own)
        *sums, count = own.split([len(mean), len(mean), 1])
        mean, square = (s / count for s in sums)
        var = square - mean.square()
        y = nn.functional.batch_norm(x, mean.float(), var.float(), weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), count)
        unbiased = var * count / (count - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        return y.to(ctx.dtype), mean, unbiased

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        x, weight, mean, invstd, count = ctx.saved_tensors
        grad = grad.float()
        moments = (None, None, mean.float(), invstd.float(), True, 0.0, [False, True, True])
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(grad, x, None, *moments)
        shared = torch.cat([by_weight, by_bias]).double()
        distributed.all_reduce(shared)
        slope, offset = (shared / count).split(len(mean))
        # invstd * weight * (grad - offset - slope * (x - mean) * invstd), channel by channel
        scale = invstd if weight is None else invstd * weight
        shape = (1, -1, *[1] * (x.dim() - 2))
        by_grad, by_x = scale, -scale * slope * invstd
        rest = -scale * offset - by_x * mean
        by_grad, by_x, rest = (v.float().view(shape) for v in (by_grad, by_x, rest))
        by_input = torch.addcmul(rest, grad, by_grad).addcmul_(x, by_x).to(ctx.dtype)
        if weight is None:
            return by_input, None, None, None
        return by_input, by_weight, by_bias, None
