"""Schedules against torch's own, stepped one by one."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from psa_pose.engine.optim import CosineAnnealingLR, LinearLR, MultiStepLR, lr_factor
from psa_pose.registry import OPTIMIZERS

STEPS_PER_EPOCH, EPOCHS = 7, 12
TOTAL = STEPS_PER_EPOCH * EPOCHS


def rates(scheduler_of, every: int = 1) -> list[float]:  # type: ignore[no-untyped-def]
    """Learning rates of torch's scheduler at every step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_of(optimizer)
    found = []
    for step in range(TOTAL):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return found


def factors(*schedules) -> list[float]:  # type: ignore[no-untyped-def]
    return [lr_factor(schedules, step, STEPS_PER_EPOCH, TOTAL) for step in range(TOTAL)]


def test_multistep_is_torchs() -> None:
    expected = rates(
        lambda o: lr_scheduler.MultiStepLR(o, [5, 9], gamma=0.1), every=STEPS_PER_EPOCH
    )
    assert factors(MultiStepLR(milestones=(5, 9), gamma=0.1)) == pytest.approx(expected)


def test_warmup_is_torchs() -> None:
    expected = rates(lambda o: lr_scheduler.LinearLR(o, 0.001, 1.0, total_iters=20))
    ours = factors(LinearLR(start_factor=0.001, end=20, by_epoch=False))
    assert ours == pytest.approx(expected)


def test_cosine_by_iteration_is_torchs() -> None:
    expected = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL))
    ours = factors(CosineAnnealingLR(convert_to_iter_based=True))
    assert ours == pytest.approx(expected, abs=1e-12)


def test_cosine_by_epoch_is_constant_within_an_epoch() -> None:
    ours = factors(CosineAnnealingLR(eta_min_ratio=0.1))
    for epoch in range(EPOCHS):
        part = ours[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH]
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
        assert part == pytest.approx([expected] * STEPS_PER_EPOCH)


def test_schedules_multiply() -> None:
    warmup, steps = LinearLR(start_factor=0.5, end=10, by_epoch=False), MultiStepLR(milestones=(1,))
    both = factors(warmup, steps)
    expected = [a * b for a, b in zip(factors(warmup), factors(steps), strict=True)]
    assert both == pytest.approx(expected)
    assert both[8] == pytest.approx(0.1 * 0.9)


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD'])
def test_optimizers_are_torchs(name: str) -> None:
    cfg = {'type': name, 'lr': 0.1, 'params': [torch.zeros(1, requires_grad=True)]}
    assert type(OPTIMIZERS.build(cfg)) is getattr(torch.optim, name)
