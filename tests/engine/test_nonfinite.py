"""Steps that would poison a run: each changes nothing, is counted, and too many end the run."""

import copy
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from psa_pose.engine import train
from psa_pose.engine.record_files import read_history
from psa_pose.errors import ConfigError, TrainingError
from psa_pose.models import TopdownPoseEstimator
from psa_pose.registry import HOOKS
from tests.engine.conftest import Run, forget, last_of

STATES: dict[int, list[Any]] = {}
KEPT = "custom_hooks=[dict(type='EMAHook', momentum=0.1), dict(type='States')]"
SGD = "dict(_delete_=True, type='SGD', lr=0.01, momentum=0.9)"


@HOOKS.register_module(force=True)
class States(L.Callback):
    """All that a step may change: weights, BatchNorm's statistics, the optimizer's state."""

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        STATES.setdefault(trainer.global_step + 1, []).append(self.state(trainer, module))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        STATES[trainer.global_step].append(self.state(trainer, module))

    @staticmethod
    def state(trainer: Any, module: Any) -> list[Tensor]:
        weights = [v for k, v in module.state_dict().items() if 'num_batches' not in k]
        moments = [
            value
            for state in trainer.optimizers[0].state.values()
            for value in state.values()
            if value is not None
        ]
        return copy.deepcopy(weights + moments)


def nan_image(module: TopdownPoseEstimator, loss: Any, batch: Any) -> Tensor:
    mean = module.data_preprocessor.mean.clone()
    module.data_preprocessor.mean.fill_(torch.nan)
    result = loss(module, batch)
    module.data_preprocessor.mean.copy_(mean)
    return result


def infinite_loss(module: TopdownPoseEstimator, loss: Any, batch: Any) -> Tensor:
    return loss(module, batch) + torch.inf  # whose gradient is finite


def nan_gradient(module: TopdownPoseEstimator, loss: Any, batch: Any) -> Tensor:
    result = loss(module, batch)
    result.register_hook(lambda grad: grad * torch.nan)
    return result


def poison(monkeypatch: Any, how: Any, batches: set[int]) -> None:
    original, seen = TopdownPoseEstimator.loss, [0]

    def loss(self: TopdownPoseEstimator, batch: Any) -> Tensor:
        seen[0] += 1
        return how(self, original, batch) if seen[0] in batches else original(self, batch)

    monkeypatch.setattr(TopdownPoseEstimator, 'loss', loss)
    STATES.clear()


@pytest.mark.parametrize(
    ('optimizer', 'how'),
    [
        ('{}', nan_image),
        ('{}', infinite_loss),
        ('{}', nan_gradient),
        ('dict(fused=False)', nan_image),
        (SGD, nan_gradient),
        ("dict(_delete_=True, type='SGD', lr=0.01)", nan_gradient),
        ('dict(_delete_=True, type="RMSprop", lr=1e-4)', infinite_loss),
    ],
    ids=['image', 'loss', 'gradient', 'not fused', 'SGD', 'SGD without momentum', 'RMSprop'],
)
def test_a_poisoned_step_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: Any, optimizer: str, how: Any
) -> None:
    poison(monkeypatch, how, {1, 4})
    options = [] if optimizer == '{}' else [f'optim_wrapper.optimizer={optimizer}']
    run('train_cfg.max_epochs=1', KEPT, *options)
    for step, (before, after) in STATES.items():
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=step > 2)]
        assert all(same) if step in (1, 4) else same.count(False) > len(same) / 2, f'step {step}'
        assert all(value.isfinite().all() for value in after), f'step {step}'
    average = last_of(tmp_path)['state_dict']
    assert all(value.isfinite().all() for value in average.values())


def scale_losses(monkeypatch: Any) -> None:
    """As float16's on a GPU; a CPU has the same scaler, over bfloat16."""
    original = train.training_trainer

    def scaled(*args: Any, **options: Any) -> L.Trainer:
        trainer = original(*args, **options)
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**8, growth_interval=2)
        trainer.precision_plugin.scaler = scaler
        return trainer

    monkeypatch.setattr(train, 'training_trainer', scaled)


@pytest.mark.parametrize('scaled', [False, True])
def test_a_bad_batch_of_a_window_takes_the_window_along(
    run: Run, tmp_path: Path, monkeypatch: Any, scaled: bool
) -> None:
    poison(monkeypatch, nan_image, {3})  # the first of the second step's two
    options = ['train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2']
    if scaled:
        scale_losses(monkeypatch)
        options.append("optim_wrapper.type='AmpOptimWrapper'")
    run(*options)
    assert all(value.isfinite().all() for value in last_of(tmp_path)['state_dict'].values())
    [entry] = read_history(tmp_path / 'run')
    assert entry['skipped_steps'] == 1


def test_skipped_steps_are_counted_and_their_images_named(
    run: Run, monkeypatch: Any, demo_root: Path, capsys: Any
) -> None:
    poison(monkeypatch, nan_image, {2, 4, 5})
    monkeypatch.setattr(run, 'capsys', _Keeping(capsys))
    run('train_cfg.max_epochs=1', 'default_hooks.logger.interval=3', 'train_cfg.max_nonfinite=3')
    first, second = [line for line in run.capsys.err.splitlines() if 'skipped' in line]
    assert '1 of 3 steps skipped, loss or gradient not finite (1 in all)' in first
    assert '2 of 3 steps skipped, loss or gradient not finite (3 in all)' in second
    images = re.findall(r'\S+\.jpg', second)
    assert images and all(Path(image).is_file() for image in images)
    assert 'loss nan' not in run.log  # neither step that was logged was a bad one


class _Keeping:
    """Keeps the other stream too."""

    def __init__(self, capsys: Any) -> None:
        self.capsys, self.err = capsys, ''

    def readouterr(self) -> Any:
        out = self.capsys.readouterr()
        self.err += out.err
        return out


def test_too_many_in_a_row_stop_the_run(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    poison(monkeypatch, nan_image, set(range(9, 99)))
    good = tmp_path / 'run/checkpoints/epoch=1_step=6.ckpt'
    with pytest.raises(TrainingError) as error:
        run('train_cfg.max_epochs=9', 'train_cfg.max_nonfinite=3')
    message = str(error.value)
    assert '3 steps in a row had a loss or gradient that is not finite' in message
    assert f'the last good checkpoint is {good}' in message
    images = re.findall(r'\S+\.jpg', message)
    assert len(images) == 8 and all(Path(image).is_file() for image in images)
    assert all(value.isfinite().all() for value in last_of(tmp_path)['state_dict'].values())
    monkeypatch.undo()


def test_a_loss_scale_is_resumed(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    scale_losses(monkeypatch)
    options = ["optim_wrapper.type='AmpOptimWrapper'", 'param_scheduler=[]']
    whole = run('train_cfg.max_epochs=2', *options)
    assert last_of(tmp_path)['MixedPrecision']['scale'] == 2.0 ** (8 + 12 // 2)
    forget(tmp_path)
    run('train_cfg.max_epochs=1', *options)
    assert last_of(tmp_path)['MixedPrecision']['scale'] == 2.0 ** (8 + 6 // 2)
    assert run('train_cfg.max_epochs=2', *options, resume=True) == whole[6:]
    assert last_of(tmp_path)['MixedPrecision']['scale'] == 2.0 ** (8 + 12 // 2)


def test_zero_is_never(run: Run, monkeypatch: Any) -> None:
    poison(monkeypatch, nan_image, set(range(2, 99)))
    run('train_cfg.max_epochs=1', 'train_cfg.max_nonfinite=0')


def test_a_number_that_makes_no_sense_is_named(run: Run) -> None:
    with pytest.raises(ConfigError, match=r'train_cfg\.max_nonfinite: expected a whole number'):
        run('train_cfg.max_nonfinite=-1')
