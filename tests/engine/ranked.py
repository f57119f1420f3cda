"""Trainings on one or several ranks, in real processes, and what they computed."""

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cluster.launching import Job, free_port
from tests.processes import CONFIG, options

SGD = "optim_wrapper.optimizer=dict(_delete_=True, type='SGD', lr=0.01, momentum=0.9)"
"""Adam would divide rounding by itself where a gradient is zero but for rounding."""
BATCH = 8  # of all ranks


def train_on(
    ranks: int, root: Path, work_dir: Path, *more: str, resume: bool = False, config: Path = CONFIG
) -> 'Trained':
    """Train on the small rendered dataset, 6 steps an epoch, with synchronised BatchNorm."""
    given = [
        *options(root, 'sync_bn=torch', 'auto_scale_lr.enable=False', 'param_scheduler=[]', SGD),
        f'train_dataloader.batch_size={BATCH // ranks}',
        'train_cfg.val_interval=100',
        *more,
    ]
    port = free_port()
    with Job(work_dir.with_name(f'{work_dir.name}_logs')) as job:
        for rank in range(ranks):
            flags = ['--resume'] if resume else []
            words = [str(config), '--work-dir', str(work_dir), *flags, *given]
            job.rank(rank, ranks, *words, port=port)
        assert (statuses := job.wait(150)) == [0] * ranks, f'{statuses}: {job.log}'
    return Trained(work_dir)


class Trained:
    """A run's folder."""

    def __init__(self, work_dir: Path) -> None:
        self.folder = work_dir / 'checkpoints'
        self.events = work_dir / 'tensorboard'

    @property
    def losses(self) -> dict[int, float]:
        """As logged, by step: float32, more digits than are printed."""
        events = EventAccumulator(str(self.events))
        events.Reload()
        return {scalar.step + 1: scalar.value for scalar in events.Scalars('loss')}

    @property
    def checkpoint(self) -> dict[str, Any]:
        return torch.load(self.folder / 'last.ckpt', weights_only=True)


def assert_same_losses(
    found: dict[int, float], expected: dict[int, float], within: float = 1e-5
) -> None:
    assert list(found) == list(expected)
    for step, loss in expected.items():
        assert abs(found[step] - loss) <= within * loss, (step, found[step], loss)


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of all values of two state dicts with the same names, relative, in the Euclidean norm."""
    assert list(found) == list(expected)
    one, two = (
        torch.cat([v.double().flatten() for v in state.values()]) for state in (found, expected)
    )
    return float((one - two).norm() / two.norm())
