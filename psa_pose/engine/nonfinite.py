"""Steps whose loss or gradient is not finite change nothing, and too many of them end the run."""

from collections import deque
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from psa_pose.datasets import TopdownDataset
from psa_pose.engine.resume import kept
from psa_pose.engine.sync_bn import is_synchronised
from psa_pose.errors import TrainingError

IMAGES = 8  # named in a message


class NonFiniteGuard(L.Callback):
    """Skips steps with a loss or gradient that is not finite, counts them, stops after a row.

    A skipped step leaves weights, the optimizer's state and BatchNorm's running statistics as they
    were; the schedule and the data go on. All of it is decided on the device: the host learns of
    it where the log reads the loss, so a run ends up to one log interval late, with weights that
    are still good. An optimizer that is not fused cannot decide there, and is waited for. Under
    float16 it is the loss that counts: gradients that overflow are the loss scale's business.

    Several ranks skip a step together. On the way they make BatchNorm's running statistics one,
    their mean, where each rank normalises by its own batch: evaluations, averages and checkpoints
    see the same on all of them.

    Args:
        max_in_row: such steps, one after the other, end the run; 0 for never.
        dataset: knows the images of a batch's persons.
        folder: of the checkpoints, for the message.
    """

    def __init__(self, max_in_row: int, dataset: TopdownDataset, folder: Path) -> None:
        self.max_in_row, self.dataset, self.folder = max_in_row, dataset, folder
        self.total = self.in_row = self.longest = 0
        self.batches: deque[np.ndarray] = deque()  # persons of each step since the last reading
        self.bad: deque[np.ndarray] = deque(maxlen=4)  # and of the latest bad ones
        self._flags: list[Tensor] = []  # of each step since the last reading, on the device
        self._bad_loss: Tensor | None = None  # of any batch of the step under way, on the device

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        norms = [
            part
            for part in module.modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training
        ]
        self._alike = all(map(is_synchronised, norms))  # on all ranks
        buffers = [b for n in norms for b in (n.running_mean, n.running_var) if b is not None]
        self._buffers, self._flat = buffers, [b.flatten() for b in buffers]
        self._kept = torch.cat(self._flat) if buffers else None
        if self._kept is not None:  # views of one tensor: few kernels, whatever their number
            parts = self._kept.split([b.numel() for b in buffers])
            self._parts = [part.view_as(b) for part, b in zip(parts, buffers, strict=True)]

    def on_before_backward(self, trainer: L.Trainer, module: Any, loss: Tensor) -> None:
        if _is_scaled(trainer):  # `loss` is, too
            bad = ~torch.isfinite(module.last_loss)
            self._bad_loss = bad if self._bad_loss is None else self._bad_loss | bad

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        self.batches.append(np.concatenate(module.persons))
        module.persons.clear()
        scaled = _is_scaled(trainer)
        if scaled:
            assert self._bad_loss is not None
            found, self._bad_loss = self._bad_loss.float(), None
        else:
            found = _nonfinite(optimizer, module.last_loss.device)
        now = torch.cat(self._flat or [found.new_empty(0)])
        if trainer.world_size > 1:
            shared = found.view(1) if self._alike else torch.cat([found.view(1), now])
            torch.distributed.all_reduce(shared)
            found = (shared[0] > 0).float()
            now = now if self._alike else shared[1:] / trainer.world_size
        self._flags.append(found)
        if not scaled:
            _skip(optimizer, found)
        if self._kept is not None:
            torch.where(found.bool(), self._kept, now, out=self._kept)
            torch._foreach_copy_(self._buffers, self._parts)

    def pending(self) -> list[Tensor]:
        """Of each step since the last reading a scalar, 1 where it was skipped."""
        return self._flags

    def count(self, flags: Sequence[float]) -> str | None:
        """Take what was read of `pending`; what is to be said of it.

        Raises:
            TrainingError: too many in a row.
        """
        self._flags = []
        before = self.total
        for flag in flags:
            persons = self.batches.popleft()
            self.total += bool(flag)
            self.in_row = self.in_row + 1 if flag else 0
            self.longest = max(self.longest, self.in_row)
            if flag:
                self.bad.append(persons)
        if 0 < self.max_in_row <= self.longest:
            files = kept(self.folder)
            raise TrainingError(
                f'{self.longest} steps in a row had a loss or gradient that is not finite and were '
                f'skipped (train_cfg.max_nonfinite={self.max_in_row}); the latest on '
                f'{self._images()}; the last good checkpoint is '
                f'{files[0] if files else "not written yet"}: try a lower learning rate, '
                'optim_wrapper.clip_grad or float32'
            )
        if self.total == before:
            return None
        return (
            f'{self.total - before} of {len(flags)} steps skipped, loss or gradient not finite '
            f'({self.total} in all); the latest on {self._images()}'
        )

    def _images(self) -> str:
        persons = dict.fromkeys(int(p) for batch in reversed(self.bad) for p in batch)
        names, root = self.dataset.persons.file_name, self.dataset.image_root
        paths = list(dict.fromkeys(str(root / names[p].decode()) for p in persons))
        more = f' and {len(paths) - IMAGES} more' if len(paths) > IMAGES else ''
        return ', '.join(paths[:IMAGES]) + more


def _is_scaled(trainer: L.Trainer) -> bool:
    plugin = trainer.precision_plugin
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None


def _nonfinite(optimizer: torch.optim.Optimizer, device: torch.device) -> Tensor:
    """1.0 where a gradient is inf or nan, else 0.0; in one pass, as GradScaler does."""
    found, one = torch.zeros((), device=device), torch.ones((), device=device)
    parameters = chain.from_iterable(group['params'] for group in optimizer.param_groups)
    grads = [grad for p in parameters if (grad := p.grad) is not None]
    for dtype in {grad.dtype for grad in grads}:
        alike = [grad for grad in grads if grad.dtype == dtype]
        torch._amp_foreach_non_finite_check_and_unscale_(alike, found, one)
    return found


def _skip(optimizer: torch.optim.Optimizer, found: Tensor) -> None:
    """Let the next step change nothing where `found` is 1."""
    groups = optimizer.param_groups
    momentum = isinstance(optimizer, torch.optim.SGD) and any(g['momentum'] for g in groups)
    # A first step of fused SGD that is skipped would leave its momentum uninitialised for good.
    if all(g.get('fused') for g in groups) and (optimizer.state or not momentum):
        optimizer.grad_scale, optimizer.found_inf = None, found  # type: ignore[attr-defined]
        return
    if found.item():
        for group in groups:
            for parameter in group['params']:
                parameter.grad = None
