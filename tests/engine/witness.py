"""A hook for configs of tests: what each rank saw, a line of JSON a step, in a file of its own."""

import json
import zlib
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from psa_pose.engine import fsdp2
from psa_pose.registry import HOOKS, MODELS
from tests.processes import CONFIG

fsdp2.UNIT = (5_000, 100_000)  # the tests' network is small, and has many units all the same


@MODELS.register_module(force=True)
class WitnessedDropout(nn.Dropout):
    """Stands where attention would."""

    def __init__(self, channels: int) -> None:
        super().__init__(0.3)


@HOOKS.register_module(force=True)
class Witness(L.Callback):
    """Writes `rank{R}.jsonl`; and may spoil what one rank computes.

    Args:
        folder: of the files.
        spoil_rank: whose gradients are nan,
        spoil_step: after as many steps.
    """

    def __init__(self, folder: str, spoil_rank: int = 0, spoil_step: int = -1) -> None:
        self.folder, self.spoil = Path(folder), (spoil_rank, spoil_step)
        self.crops: dict[int, int] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        crops = [zlib.crc32(crop.numpy().tobytes()) for crop in batch.crop]
        self.crops = dict(zip(batch.person.tolist(), crops, strict=True))

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        self.drawn = float(torch.rand(()))  # after the module has seeded this batch
        if (trainer.global_rank, trainer.global_step) == self.spoil:
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            local(grads[0]).fill_(float('nan'))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        hooks = {type(callback).__name__: callback for callback in trainer.callbacks}
        state = module.state_dict()
        (optimizer,) = trainer.optimizers
        moments = [v for values in optimizer.state.values() for v in values.values()]
        seen = {
            'step': trainer.global_step,
            'drawn': self.drawn,
            'crops': self.crops,
            'weights': checksum(state[n] for n, _ in module.estimator.named_parameters()),
            'statistics': checksum(state[n] for n in state if 'running' in n),
            'bytes': {
                'weights': size(module.parameters()),
                'gradients': size(p.grad for p in module.parameters() if p.grad is not None),
                'optimizer': size(v for v in moments if v.dim()),
            },
        }
        if 'EMAHook' in hooks:
            seen['average'] = checksum(hooks['EMAHook']._average.values())
        with open(self.folder / f'rank{trainer.global_rank}.jsonl', 'a') as file:
            print(json.dumps(seen), file=file)


def local(tensor: Any) -> Tensor:
    return tensor.to_local() if hasattr(tensor, 'to_local') else tensor


def checksum(tensors: Any) -> int:
    total = 0
    for tensor in tensors:
        total = zlib.crc32(local(tensor).detach().contiguous().numpy().tobytes(), total)
    return total


def size(tensors: Any) -> int:
    return sum(local(t).numel() * t.element_size() for t in tensors)


def witness(folder: Path, *more: str, **options: Any) -> Path:
    """A config with the hook, which writes below `folder`; and further lines."""
    folder.mkdir(parents=True)
    path = folder / 'config.py'
    hook = {'type': 'Witness', 'folder': str(folder), **options}
    lines = [
        f"_base_ = ['{CONFIG}']",
        "custom_imports = dict(imports=['tests.engine.witness'])",
        'custom_hooks = []',
        *more,
        f'custom_hooks.append({hook})',
    ]
    path.write_text('\n'.join(lines))
    return path


def witnessed(folder: Path) -> list[list[dict[str, Any]]]:
    """Of each rank the steps."""
    files = sorted(folder.glob('rank*.jsonl'))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
