"""FSDP2: each rank keeps a share of the weights, gradients and optimizer state.

Lightning's strategy, with two differences. The model is sharded here, in units that are gathered
for their turn in forward and backward; and a checkpoint holds whole tensors under the names and
numbers that a run without shards gives them: any strategy, number of ranks and tool reads it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from psa_pose.models.backbones.blocks import BasicBlock, Bottleneck

UNIT = (100_000, 4_000_000)
"""Parameters of a unit: fewer are not worth a gathering, more would be on a device at once."""


class FSDP2Strategy(ModelParallelStrategy):
    """Shards over all ranks.

    Args:
        ranks: of the run.
        reshard_after_forward: free a unit's whole weights between its forward and backward.
        reduce_dtype: gradients are summed over ranks in it; None for their own.
    """

    # As a run without shards does it: model, then callbacks, then optimizers.
    restore_checkpoint_after_setup = False
    lightning_restore_optimizer = True

    def __init__(
        self, ranks: int, reshard_after_forward: bool, reduce_dtype: torch.dtype | None
    ) -> None:
        super().__init__(ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.reshard_after_forward, self.reduce_dtype = reshard_after_forward, reduce_dtype

    def shard(self, model: nn.Module) -> None:
        """Let each rank keep its share of a whole model, the same on all of them; once."""
        if isinstance(model, FSDPModule):
            return
        options: dict[str, Any] = {
            'mesh': self.device_mesh['data_parallel'],
            'reshard_after_forward': self.reshard_after_forward,
            # Weights are gathered as they are: autocast sees to training, evaluation is float32.
            'mp_policy': MixedPrecisionPolicy(reduce_dtype=self.reduce_dtype),
        }
        # Shards are cut from contiguous weights; images, and so maps, stay channels last.
        model.to(memory_format=torch.contiguous_format)
        for unit in list(units(model)):
            fully_shard(unit, **options)
        fully_shard(model, **options)

    def keep_whole(self, model: nn.Module, keep: bool) -> None:
        """Let what the next forward gathers stay, or free it.

        Ranks take different numbers of batches in an evaluation: the first is the only one that
        they take together, and the only one that may send anything.
        """
        assert isinstance(model, FSDPModule)
        model.set_reshard_after_forward(self.reshard_after_forward and not keep)
        model.set_reshard_after_forward(False, recurse=False)  # its backward is next
        for part in model.modules():
            if isinstance(part, FSDPModule) and not keep:
                part.reshard()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors on rank 0, nothing elsewhere; collective."""
        assert self.lightning_module is not None
        return self.whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """As `optimizer.state_dict()` without shards; whole on rank 0; collective."""
        state: dict[str, Any] = Strategy.optimizer_state(self, optimizer)
        return {**state, 'state': {i: self.whole(s) for i, s in state['state'].items()}}

    def load_checkpoint(self, path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return Strategy.load_checkpoint(self, path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint['optimizer_states'], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            own = {
                i: {name: share(v, parameters[i]) for name, v in values.items()}
                for i, values in state['state'].items()
            }
            made = [{k: g.get(k) for k in ('fused', 'foreach')} for g in optimizer.param_groups]
            optimizer.load_state_dict({**state, 'state': own})
            for group, kernels in zip(optimizer.param_groups, made, strict=True):
                group.update(kernels)  # those of a run without shards may not know them

    def whole(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors of this rank's shares as whole ones on rank 0, nothing elsewhere; collective."""
        found = {}
        for name, value in tensors.items():  # one at a time: each is whole on every rank
            full = value.full_tensor() if isinstance(value, DTensor) else value
            if self.is_global_zero:
                found[name] = full.cpu() if isinstance(full, Tensor) else full
        return found


def share(value: Any, like: Any) -> Any:
    """A rank's share of a whole tensor, divided as `like` is; another value as it is."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or like.shape != value.shape:
        return value
    value = value.to(like.device)
    # Every rank has the whole: nothing needs to be sent.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def own(value: Tensor) -> Tensor:
    """This rank's part of a tensor, in the same memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def units(model: nn.Module) -> Iterator[nn.Module]:
    """The largest parts that are small enough; residual blocks are never taken apart."""
    least, most = UNIT
    for part in model.children():
        size = sum(p.numel() for p in part.parameters())
        if size < least:
            continue  # goes with what it is in
        list_only = isinstance(part, nn.ModuleList | nn.ModuleDict)  # and has no forward
        whole = isinstance(part, BasicBlock | Bottleneck) or not next(part.children(), None)
        if list_only or (size > most and not whole):
            yield from units(part)
        else:
            yield part
