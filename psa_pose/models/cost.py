"""What a model costs, by part: parameters, multiply-adds, and bytes kept for the backward.

Nothing is computed: the model's code runs on fake CPU tensors (shapes without values), so that
HRNet-W48 at any input size takes seconds and no memory.

What is counted as multiply-adds: convolutions, transposed ones too, and matrix products (`mm`,
`bmm`, fused attention), as seen by `torch.utils.flop_counter`; half of the FLOPs it reports. Not
counted: normalisation, activations, softmax, pooling, additions, gating. One multiply-add is what
papers of the field call one FLOP.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

PARTS = ('stem', 'stage 1', 'stage 2', 'stage 3', 'stage 4', 'attention', 'head')

ByPart = dict[str, int]


@dataclass(frozen=True)
class ModelCost:
    """Costs by part, each a number for every one of `PARTS`.

    Attributes:
        parameters: how many.
        macs: multiply-adds of one image's forward pass.
        kept_bytes: of float32 tensors that the forward pass of one image in training keeps for the
            backward, each storage once, and of the heatmaps; without parameters and buffers.
        heatmaps: (K, H, W) of the output.
    """

    parameters: ByPart
    macs: ByPart
    kept_bytes: ByPart
    heatmaps: tuple[int, ...]


def part_of(name: str) -> str:
    """The part to which an estimator's submodule or parameter of this name belongs.

    Attention is what `blocks.py` calls so. A transition of HRNet counts to the stage that it leads
    to; what else a backbone has is its stem.
    """
    first, *inside = name.split('.')
    if first != 'backbone':
        return 'head'
    if 'attention' in inside:
        return 'attention'
    found = re.fullmatch(r'(layer|stage|transition)([1-4])', inside[0] if inside else '')
    if not found:
        return 'stem'
    return f'stage {int(found[2]) + (found[1] == "transition")}'


def measure(model: nn.Module, height: int, width: int) -> ModelCost:
    """The cost of an estimator (`backbone` and `head`) for one image of `height` x `width` pixels.

    Args:
        model: on any device, 'meta' too; it is left as it is.
        height: of the input, in pixels; HRNet needs multiples of 32.
        width: likewise.
    """
    parameters = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        parameters[part_of(name)] += parameter.numel()

    # On 'meta' tensors PyTorch takes other attention kernels than on a device; on fake ones not.
    with FakeTensorMode(), torch.enable_grad(), _training(model):
        state = {n: _fake(t) for n, t in (*model.named_parameters(), *model.named_buffers())}
        counter, keeper = FlopCounterMode(display=False), _Keeper(state)
        with counter, keeper.tracker, keeper.hooks:
            image = torch.empty(1, 3, height, width)
            heatmaps = torch.func.functional_call(model, state, (image,))
        keeper.add(heatmaps, 'head')
    totals = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    return ModelCost(parameters, _macs(totals), keeper.kept_bytes, tuple(heatmaps.shape[1:]))


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty(
        tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad, device='cpu'
    )


def _macs(totals: Mapping[str, int]) -> ByPart:
    """From FLOPs by module, where a module's include its children's, to multiply-adds by part."""
    own = dict(totals)
    for name, flops in totals.items():
        above = name.rpartition('.')[0]
        while above and above not in totals:  # a ModuleList is never called
            above = above.rpartition('.')[0]
        if above:
            own[above] -= flops
    macs = dict.fromkeys(PARTS, 0)
    for name, flops in own.items():
        if name != 'Global':
            macs[part_of(_below_root(name))] += flops // 2
    return macs


def _below_root(name: str) -> str:
    """PyTorch's trackers put the class of the model before every name."""
    return name.partition('.')[2]


class _Keeper:
    """Adds up what autograd saves, each storage once, by the part that saves it first."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.kept_bytes = dict.fromkeys(PARTS, 0)
        self.tracker = ModuleTracker()
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._save, lambda t: t)
        # Held, so that no later storage gets the identity of a freed one.
        self._seen = {s._cdata: s for s in (t.untyped_storage() for t in state.values())}

    def add(self, tensor: Tensor, part: str) -> None:
        """Count a tensor's storage, unless it has been."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = storage
            self.kept_bytes[part] += storage.nbytes()

    def _save(self, tensor: Tensor) -> Tensor:
        innermost = max(self.tracker.parents - {'Global'}, key=len)
        self.add(tensor, part_of(_below_root(innermost)))
        return tensor
