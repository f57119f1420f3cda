"""What a run says of its speed, by a clock that only some things move."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from psa_pose.engine import callbacks, data_wait
from psa_pose.engine.checkpointing import BestCheckpoint, RotatingCheckpoint
from psa_pose.engine.module import PoseModule
from tests.engine.conftest import Run

SECONDS = [  # what takes time, and how much
    (PoseModule, 'on_before_batch_transfer', 1),  # getting a batch
    (PoseModule, 'training_step', 3),
    (PoseModule, 'validation_step', 100),
    (PoseModule, 'on_validation_epoch_end', 1000),
    (RotatingCheckpoint, '_save', 10_000),
    (BestCheckpoint, '_save_checkpoint', 100_000),
]


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> None:
    now = [0.0]

    def slow(part: Any, name: str, seconds: float) -> None:
        original = getattr(part, name)

        def method(*args: Any, **options: Any) -> Any:
            now[0] += seconds
            return original(*args, **options)

        monkeypatch.setattr(part, name, method)

    for part in (callbacks, data_wait):
        monkeypatch.setattr(part, 'time', SimpleNamespace(perf_counter=lambda: now[0]))
    for part, name, seconds in SECONDS:
        slow(part, name, seconds)


@pytest.mark.parametrize(
    'options',
    [
        [],
        ['default_hooks.checkpoint.by_epoch=False'],
        ['trainer.val_check_interval=2'],
        ['default_hooks.checkpoint.interval=99', 'train_cfg.val_interval=2'],
    ],
    ids=['epochs', 'steps', 'evaluated within', 'seldom'],
)
def test_speed_is_that_of_training(run: Run, options: list[str]) -> None:
    """Whatever is written and evaluated, within an epoch or at its end: 8 samples in 4 seconds."""
    run(
        'train_cfg.max_epochs=3',
        'train_cfg.val_interval=1',
        'default_hooks.logger.interval=4',  # an epoch has 6 steps
        'default_hooks.visualization.enable=False',
        *options,
    )
    lines = re.findall(r'(\d+) samples/s  data wait (\d+)%', run.log)
    assert lines == [('2', '25')] * 4


def test_the_time_left_is_that_of_all(run: Run) -> None:
    run('train_cfg.max_epochs=2')
    left = re.findall(r'ETA (.+)', run.log)
    assert left[0] == '0:00:44'  # 11 steps of 4 seconds
    assert left[6] != '0:00:20'  # by then a checkpoint was written
