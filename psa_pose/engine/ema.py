"""The exponential moving average of the weights, which is what gets evaluated and published."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from psa_pose.engine.fsdp2 import FSDP2Strategy, own, share
from psa_pose.engine.module import PoseModule
from psa_pose.registry import HOOKS

EMA_TYPES = ('ExponentialMovingAverage', 'ExpMomentumEMA')


@HOOKS.register_module()
class EMAHook(L.Callback):
    """average = (1 - momentum) * average + momentum * weights, after every optimizer step.

    Evaluations use the average. A checkpoint's `state_dict` is the average, so that `--load-from`
    and `tools/test.py` use it; `current_model_state` is what training goes on with. MMEngine's
    words and numbers, except that BatchNorm's statistics are averaged like the weights they
    belong to unless told otherwise (as every config of MMPose that averages does). Lightning's own
    callback asks the device at every step how often it has averaged, and waits for the answer.

    Args:
        ema_type: 'ExponentialMovingAverage', or 'ExpMomentumEMA', whose momentum falls from 1:
            (1 - momentum) * exp(-(1 + steps) / gamma) + momentum.
        momentum: share of the new weights.
        gamma: of 'ExpMomentumEMA', in optimizer steps.
        interval: optimizer steps from one averaging to the next.
        begin_iter: optimizer steps before which the average is a copy.
        begin_epoch: epochs before which the average is a copy; not both.
        update_buffers: average BatchNorm's statistics too, otherwise copy them.
    """

    def __init__(
        self,
        ema_type: str = 'ExponentialMovingAverage',
        momentum: float = 0.0002,
        gamma: float = 2000,
        interval: int = 1,
        begin_iter: int = 0,
        begin_epoch: int = 0,
        update_buffers: bool = True,
    ) -> None:
        if ema_type not in EMA_TYPES:
            raise ValueError(f"ema_type must be one of {EMA_TYPES}, got '{ema_type}'")
        if not 0 < momentum < 1:
            raise ValueError(f'momentum, the share of the new weights, is in (0, 1): {momentum}')
        if interval < 1 or gamma <= 0:
            raise ValueError(f'interval and gamma are positive, got {interval} and {gamma}')
        if begin_iter and begin_epoch:
            raise ValueError('give begin_iter or begin_epoch, not both')
        self.ema_type, self.momentum, self.gamma = ema_type, momentum, gamma
        self.interval, self.update_buffers = interval, update_buffers
        self.begin_iter, self.begin_epoch = begin_iter, begin_epoch
        self.steps = 0  # of averaging
        self._seen = 0  # optimizer steps
        self._average: dict[str, Tensor] = {}  # the current weights' while they are swapped
        self._swapped = False

    def __str__(self) -> str:
        return f'{self.ema_type}, momentum {self.momentum:g}'

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._average = {
            name: share(self._average.get(name, value), value).to(value.device, copy=True)
            for name, value in module.state_dict().items()
        }

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        self._seen = trainer.global_step
        weights = {name for name, _ in module.estimator.named_parameters()}
        # Shares memory with the network from here to the end.
        now = {name: own(value) for name, value in module.state_dict().items()}
        average = {name: own(value) for name, value in self._average.items()}
        averaged = [n for n in now if n in weights or self.update_buffers]
        averaged = [n for n in averaged if now[n].is_floating_point()]
        self._averaged = [average[n] for n in averaged], [now[n] for n in averaged]
        copied = now.keys() - set(averaged)
        self._copied = [average[n] for n in copied], [now[n] for n in copied]

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self._seen:
            return  # gradients are still being accumulated
        self._seen = trainer.global_step
        begun = self._seen >= self.begin_iter and trainer.current_epoch + 1 >= self.begin_epoch
        if not begun or self.steps == 0:
            torch._foreach_copy_(*self._averaged)
        elif self.steps % self.interval == 0:
            torch._foreach_lerp_(*self._averaged, self._momentum())
        torch._foreach_copy_(*self._copied)
        self.steps += begun

    def _momentum(self) -> float:
        if self.ema_type == 'ExponentialMovingAverage':
            return self.momentum
        early = math.exp(-(1 + self.steps) / self.gamma)
        return (1 - self.momentum) * early + self.momentum

    def on_validation_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._swap(module)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._swap(module)

    @torch.no_grad()
    def _swap(self, module: L.LightningModule) -> None:
        for name, value in module.state_dict().items():
            other = self._average[name]
            kept = value.clone()
            value.copy_(other)
            other.copy_(kept)
        self._swapped = not self._swapped

    def state_dict(self) -> dict[str, Any]:
        return {'steps': self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict['steps']

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        average = self._average
        if isinstance(trainer.strategy, FSDP2Strategy):
            average = trainer.strategy.whole(average)
        pair = [average, checkpoint['state_dict']]
        average, current = reversed(pair) if self._swapped else pair
        checkpoint['state_dict'], checkpoint['current_model_state'] = average, current

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._average = checkpoint['state_dict']  # moved to the device when training starts
        module.load_state_dict(checkpoint['current_model_state'])
