"""Optimizers by name, and learning-rate schedules as plain functions of time.

A schedule gives a factor for every moment instead of changing the rate step by step, so nothing
needs to be saved for a run to go on where it was, and factors of several schedules multiply.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from psa_pose.registry import OPTIMIZERS, PARAM_SCHEDULERS

for _name in ('Adam', 'AdamW', 'SGD', 'RMSprop'):
    OPTIMIZERS.register_module(name=_name, module=getattr(torch.optim, _name))


@dataclass
class Schedule:
    """When a schedule runs, in epochs or in optimizer steps.

    Attributes:
        begin: first moment; the factor before is the one at `begin`.
        end: last moment; the factor stays as it is then. `None` is the end of training.
        by_epoch: whether moments are counted in epochs.
        convert_to_iter_based: with `by_epoch`, follow the curve inside an epoch as well.
    """

    begin: float = 0
    end: float | None = None
    by_epoch: bool = True
    convert_to_iter_based: bool = False

    def factor(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """What the learning rate is multiplied with at an optimizer step, counted from 0."""
        unit = steps_per_epoch if self.by_epoch else 1
        end = total_steps / unit if self.end is None else self.end
        now = step / unit
        if self.by_epoch and not self.convert_to_iter_based:
            now = math.floor(now)
        return self.curve(min(max(now, self.begin), end), end)

    def curve(self, now: float, end: float) -> float:
        """The factor at `now`, which lies between `begin` and `end`."""
        raise NotImplementedError


@PARAM_SCHEDULERS.register_module()
@dataclass
class LinearLR(Schedule):
    """From `start_factor` at `begin` to `end_factor` at `end`: a warm-up."""

    start_factor: float = 0.001
    end_factor: float = 1.0

    def curve(self, now: float, end: float) -> float:
        share = (now - self.begin) / max(end - self.begin, 1e-12)
        return self.start_factor + share * (self.end_factor - self.start_factor)


@PARAM_SCHEDULERS.register_module()
@dataclass
class MultiStepLR(Schedule):
    """Times `gamma` at each milestone."""

    milestones: tuple[float, ...] = ()
    gamma: float = 0.1

    def curve(self, now: float, end: float) -> float:
        return self.gamma ** sum(now >= milestone for milestone in self.milestones)


@PARAM_SCHEDULERS.register_module()
@dataclass
class CosineAnnealingLR(Schedule):
    """From 1 at `begin` down to `eta_min_ratio` at `end` along half a cosine."""

    eta_min_ratio: float = 0.0

    def curve(self, now: float, end: float) -> float:
        share = (now - self.begin) / max(end - self.begin, 1e-12)
        return self.eta_min_ratio + (1 - self.eta_min_ratio) * (1 + math.cos(math.pi * share)) / 2


def build_schedules(entries: Any, path: str) -> list[Schedule]:
    """The schedules of a config's list (or of a single entry, or None) at `path`."""
    entries = [entries] if isinstance(entries, Mapping) else entries or []
    return [PARAM_SCHEDULERS.build(e, at=f'{path}.{i}') for i, e in enumerate(entries)]


def lr_factor(
    schedules: Iterable[Schedule], step: int, steps_per_epoch: int, total_steps: int
) -> float:
    """The product of all schedules at an optimizer step."""
    return math.prod(s.factor(step, steps_per_epoch, total_steps) for s in schedules)
