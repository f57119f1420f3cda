"""What makes a host wait for its device, counted step by step; on a CPU, where nothing waits."""

from collections import defaultdict
from typing import Any

import lightning as L
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from psa_pose.registry import HOOKS

aten = torch.ops.aten
SIZES_UNKNOWN = {  # of the result, until the device has counted
    aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique2, aten.unique_consecutive,
    aten.bincount, aten.repeat_interleave,
}  # fmt: skip
NUMBERS = {aten._local_scalar_dense, aten.equal, aten.is_nonzero}  # item(), bool(), float() ...
COPIES = {torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}
# Values of a Python list reach a device through pageable memory.
MADE_OF_PYTHON = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}


class Waits:
    """By optimizer step, counted from 1, what was called that would wait for a GPU.

    `step` is the one that calls belong to; while it is None nothing counts.
    """

    current: 'Waits'

    def __init__(self) -> None:
        self.found: dict[int, list[str]] = defaultdict(list)
        self.step: int | None = None
        Waits.current = self

    def record(self, function: Any) -> None:
        if self.step is not None:
            self.found[self.step].append(str(getattr(function, '__name__', function)))

    def __enter__(self) -> 'Waits':
        self.modes: list[Any] = [_Operators(self), _Functions(self)]
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        by_mask = packet in (aten.index, aten.index_put, aten.index_put_) and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if by_mask or packet in SIZES_UNKNOWN | NUMBERS:
            self.waits.record(func)
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # By its name: `torch.device('cpu')` is what stands for the GPU here.
        words = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, str)]
        to_host = func is torch.Tensor.to and 'cpu' in words
        if to_host or func in COPIES | MADE_OF_PYTHON:
            self.waits.record(func)
        return func(*args, **kwargs)


@HOOKS.register_module(force=True)
class CountedSteps(L.Callback):
    """Says which step it is, from one batch's start to the next; between epochs none."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        Waits.current.step = trainer.global_step + 1

    def on_train_epoch_end(self, *_: Any) -> None:
        Waits.current.step = None

    on_validation_start = on_train_epoch_end
