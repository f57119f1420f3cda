"""What a run writes and logs, against what its config says; small runs in this process."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from psa_pose.datasets import TopdownDataset
from psa_pose.engine.record_files import read_history
from psa_pose.errors import ConfigError, DataError
from tests.engine.conftest import forget, last_of


def test_the_logged_rate_is_the_one_used(run: Any) -> None:
    steps = run('train_cfg.max_epochs=2')
    for step, _, rate in steps:
        done = step - 1  # the first step is taken at time 0
        warm_up = 0.01 + 0.99 * done / 100
        cosine = (1 + math.cos(math.pi * done / len(steps))) / 2
        assert rate == pytest.approx(0.0005 * warm_up * cosine, rel=6e-3)  # printed to 3 digits


def test_milestones_count_epochs_whatever_ends_the_run(run: Any) -> None:
    schedule = "param_scheduler=[dict(type='MultiStepLR', milestones=[1])]"
    rates = [rate for _, _, rate in run(schedule, 'train_cfg.max_epochs=9', 'trainer.max_steps=8')]
    assert rates == [0.0005] * 6 + [0.00005] * 2  # 52 persons are 6 batches of 8


def test_accumulation_does_not_shrink_the_loss(run: Any, tmp_path: Path) -> None:
    (plain, *_) = run('train_cfg.max_epochs=1', 'auto_scale_lr.enable=False')
    forget(tmp_path)
    steps = run('train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=3')
    assert [step for step, _, _ in steps] == [1, 2]
    assert steps[0][1] == pytest.approx(plain[1], rel=0.2)


@pytest.mark.parametrize(('epochs', 'interval'), [(3, 2), (1, 10)])
def test_the_last_epoch_is_evaluated_and_kept(
    run, tmp_path: Path, epochs: int, interval: int
) -> None:
    run(f'train_cfg.max_epochs={epochs}', f'default_hooks.checkpoint.interval={interval}')
    checkpoint = last_of(tmp_path)
    assert checkpoint['global_step'] == 6 * epochs
    assert 'AP' in checkpoint['meta']['metrics']
    assert len(list((tmp_path / 'run/checkpoints').glob('best_*'))) == 1


def test_a_run_ended_by_max_steps_is_kept(run: Any, tmp_path: Path) -> None:
    run('train_cfg.max_epochs=3', 'trainer.max_steps=8')
    assert last_of(tmp_path)['global_step'] == 8


@pytest.mark.parametrize('interval', [1, 9])
def test_a_run_ended_by_max_steps_goes_on(run: Any, tmp_path: Path, interval: int) -> None:
    options = ('train_cfg.max_epochs=3', 'param_scheduler=[]', 'train_cfg.val_interval=1')
    whole = run(*options)
    evaluated = [entry['step'] for entry in read_history(tmp_path / 'run')]
    assert (len(whole), evaluated) == (18, [6, 12, 18])
    forget(tmp_path)
    options = (*options, f'default_hooks.checkpoint.interval={interval}')
    assert run(*options, 'trainer.max_steps=8') == whole[:8]
    history = read_history(tmp_path / 'run')
    assert [(entry['epoch'], entry['step']) for entry in history] == [(1, 6), (2, 8)]
    assert run(*options, 'trainer.max_steps=11', resume=True) == whole[8:11]
    assert run(*options, resume=True) == whole[11:]
    assert [entry['step'] for entry in read_history(tmp_path / 'run')] == [6, 8, 11, 12, 18]


@pytest.mark.parametrize(
    ('first', 'stop', 'then', 'evaluated'),
    [  # 52 persons: 6 steps of 8, or 7 of two batches of 4, the last of one
        ((8, 1), 4, (4, 2), [7, 14, 21]),
        ((4, 2), 3, (8, 1), [6, 12, 18]),
        ((8, 1), 6, (4, 2), [6, 13, 20]),
        ((4, 2), 7, (8, 1), [7, 13, 19]),
    ],
)
def test_a_step_split_otherwise_goes_on(
    run: Any, tmp_path: Path, monkeypatch: Any, first: Any, stop: int, then: Any, evaluated: Any
) -> None:
    seen: list[tuple[int, int]] = []
    load = TopdownDataset.__getitem__

    def witnessed(dataset: TopdownDataset, key: Any) -> Any:
        if key.epoch is not None:
            seen.append((key.epoch, key.person))
        return load(dataset, key)

    monkeypatch.setattr(TopdownDataset, '__getitem__', witnessed)
    for (batch, accumulated), end, resume in ((first, stop, False), (then, -1, True)):
        run(
            'train_cfg.max_epochs=3',
            'train_cfg.val_interval=1',
            f'trainer.max_steps={end}',
            f'train_dataloader.batch_size={batch}',
            f'optim_wrapper.accumulative_counts={accumulated}',
            resume=resume,
        )
    steps = [entry['step'] for entry in read_history(tmp_path / 'run')]
    assert [step for step in steps if step != stop or stop in evaluated] == evaluated
    assert len(seen) == len(set(seen)) and Counter(epoch for epoch, _ in seen).keys() == {0, 1, 2}
    assert min(Counter(epoch for epoch, _ in seen).values()) >= 48


def test_resume_is_exact_with_dropout(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from torch import nn

    from psa_pose.registry import MODELS

    class Dropped(nn.Dropout):
        def __init__(self, channels: int) -> None:
            super().__init__(0.3)

    MODELS.register_module(name='Dropped', module=Dropped, force=True)
    dropout = ["model.backbone.attention=dict(_delete_=True, type='Dropped')", 'param_scheduler=[]']
    whole = run('train_cfg.max_epochs=3', *dropout)
    forget(tmp_path)
    run('train_cfg.max_epochs=1', *dropout)
    assert run('train_cfg.max_epochs=3', *dropout, resume=True) == whole[6:]


def test_resume_with_another_rate_or_batch_is_refused(run: Any) -> None:
    run('train_cfg.max_epochs=1')
    for option in ('optim_wrapper.optimizer.lr=0.1', 'train_dataloader.batch_size=4'):
        with pytest.raises(ConfigError, match=r'trained with .*= 0\.0005.*but the config now says'):
            run('train_cfg.max_epochs=2', option, resume=True)


def test_resume_with_another_batch_is_refused_where_the_rate_is_not_scaled(run: Any) -> None:
    unscaled = ('train_cfg.max_epochs=1', 'auto_scale_lr.enable=False')
    run(*unscaled)
    with pytest.raises(ConfigError, match=r'0\.002, batch 8.*now says .*0\.002, batch 4'):
        run(*unscaled, 'train_dataloader.batch_size=4', resume=True)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('default_hooks.checkpoint.save_best=APX', r"no evaluator gives 'APX'; did you mean 'AP'"),
        ('default_hooks.checkpoint.rule=maxx', "'max' or 'min'"),
        ('default_hooks.checkpoint.interval=0', r'checkpoint.interval: .*from 1 on, got 0'),
        ('optim_wrapper.clip_grad=dict(max_nrom=1)', "clip_grad: no option 'max_nrom'"),
        ('optim_wrapper.accumulative_counts=0', 'accumulative_counts: expected a whole number'),
        ('train_cfg.val_interval=0', 'val_interval: expected a whole number'),
        ('train_cfg=3', r'train_cfg: expected dict\(\.\.\.\), got 3'),
        ('train_dataloader.batch_size=abc', "batch_size: expected a whole number .* got 'abc'"),
        ('optim_wrapper.optimizer.lr=abc', "optimizer.lr: not a number: 'abc'"),
        ('randomness.seed=abc', 'randomness.seed: expected a whole number'),
        ('param_scheduler.9.type=x', r"cannot set 'param_scheduler.9.type'"),
    ],
)
def test_values_that_make_no_sense_are_named(run: Any, option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(option)


def test_none_is_mmposes_word_for_nothing(run: Any) -> None:
    nothing = ['param_scheduler=None', 'auto_scale_lr=None', 'optim_wrapper.clip_grad=None']
    rates = {rate for _, _, rate in run('train_cfg.max_epochs=1', *nothing)}
    assert rates == {0.002}


def test_a_first_batch_that_nobody_can_read_stops_the_run(
    demo_root: Path, tmp_path: Path, run: Any
) -> None:
    import shutil

    root = shutil.copytree(demo_root, tmp_path / 'data')
    for path in (root / 'images/train').iterdir():
        path.write_bytes(b'nothing')
    with pytest.raises(DataError, match='not one image of the first batch'):
        run(
            f'train_dataloader.dataset.data_root={root}',
            'train_dataloader.dataset.on_error=skip',
        )
