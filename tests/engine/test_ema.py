"""The averaged weights: their numbers, who uses them, and that a run goes on with both exactly."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from psa_pose.engine.ema import EMAHook
from psa_pose.engine.evaluate import test as evaluate
from psa_pose.errors import ConfigError
from psa_pose.registry import HOOKS
from tests.engine.conftest import Run, forget, last_of

MOMENTUM = 0.3
EMA = f"custom_hooks=[dict(type='EMAHook', momentum={MOMENTUM})]"
BN_MEAN, WEIGHT = 'backbone.bn1.running_mean', 'head.final_layer.weight'


class Weights(L.Callback):
    """Keeps two of the network's tensors after every step, and as evaluations see them."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.evaluated: list[dict[str, Tensor]] = []
        type(self).last = self

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.trained):
            self.trained.append(kept(module.state_dict()))

    def on_validation_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.evaluated.append(kept(module.state_dict()))


HOOKS.register_module(name='KeptWeights', module=Weights, force=True)


def kept(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name].clone() for name in (BN_MEAN, WEIGHT)}


def with_ema(**options: Any) -> str:
    text = ''.join(f', {key}={value!r}' for key, value in options.items())
    return (
        f"custom_hooks=[dict(type='EMAHook', momentum={MOMENTUM}{text}), dict(type='KeptWeights')]"
    )


def averages(trained: list[dict[str, Tensor]], momenta: list[float]) -> dict[str, Tensor]:
    """By hand; a momentum of 1 copies."""
    average = trained[0]
    for now, m in zip(trained[1:], momenta, strict=True):
        average = {name: (1 - m) * average[name] + m * now[name] for name in average}
    return average


def assert_same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ('options', 'momenta'),
    [
        ({}, [MOMENTUM] * 5),
        ({'interval': 2}, [0, MOMENTUM, 0, MOMENTUM, 0]),
        ({'begin_iter': 4}, [1, 1, 1, MOMENTUM, MOMENTUM]),
        (
            {'ema_type': 'ExpMomentumEMA', 'gamma': 3},
            [(1 - MOMENTUM) * math.exp(-(1 + i) / 3) + MOMENTUM for i in range(1, 6)],
        ),
    ],
)
def test_the_average_is_mmengines(
    run: Run, tmp_path: Path, options: dict[str, Any], momenta: list[float]
) -> None:
    run(with_ema(**options), 'train_cfg.max_epochs=1')
    checkpoint, trained = last_of(tmp_path), Weights.last.trained
    assert len(trained) == 6
    assert_same(checkpoint['state_dict'], averages(trained, momenta))
    assert_same(checkpoint['current_model_state'], trained[-1])
    assert_same(Weights.last.evaluated[-1], kept(checkpoint['state_dict']))


def test_without_update_buffers_statistics_are_those_of_the_network(
    run: Run, tmp_path: Path
) -> None:
    run(with_ema(update_buffers=False), 'train_cfg.max_epochs=1')
    state, trained = last_of(tmp_path)['state_dict'], Weights.last.trained
    assert torch.equal(state[BN_MEAN], trained[-1][BN_MEAN])
    assert_same({WEIGHT: state[WEIGHT]}, {WEIGHT: averages(trained, [MOMENTUM] * 5)[WEIGHT]})
    assert int(state['backbone.bn1.num_batches_tracked']) == 6


def test_it_averages_once_a_step_however_many_batches_that_takes(run: Run, tmp_path: Path) -> None:
    run(with_ema(), 'train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2')
    assert len(Weights.last.trained) == 3
    assert_same(last_of(tmp_path)['state_dict'], averages(Weights.last.trained, [MOMENTUM] * 2))


def test_resume_goes_on_with_both_exactly(run: Run, tmp_path: Path) -> None:
    whole = run(EMA, 'train_cfg.max_epochs=3', 'param_scheduler=[]', 'train_cfg.val_interval=1')
    expected = last_of(tmp_path)
    forget(tmp_path)
    run(EMA, 'train_cfg.max_epochs=1', 'param_scheduler=[]')
    assert run(EMA, 'train_cfg.max_epochs=3', 'param_scheduler=[]', resume=True) == whole[6:]
    resumed = last_of(tmp_path)
    for key in ('state_dict', 'current_model_state'):
        for name, value in expected[key].items():
            assert torch.equal(resumed[key][name], value), (key, name)
    assert not torch.equal(expected['state_dict'][WEIGHT], expected['current_model_state'][WEIGHT])


def test_evaluating_a_checkpoint_gives_what_training_said(run: Run, tmp_path: Path) -> None:
    run(EMA, 'train_cfg.max_epochs=1', 'trainer.limit_val_batches=1.0')
    said = last_of(tmp_path)['meta']['metrics']
    cfg = run.configure('trainer.limit_val_batches=1.0')
    found = evaluate(cfg, tmp_path / 'run/checkpoints/last.ckpt')
    assert found == said
    # A run that is complete only evaluates: the average, although training ended with the others.
    run(EMA, 'train_cfg.max_epochs=1', 'trainer.limit_val_batches=1.0', resume=True)
    assert f'{said["AP"]:.4f}' in run.log


@pytest.mark.parametrize(('before', 'after'), [(True, False), (False, True)])
def test_resume_with_or_without_it_as_before(run: Run, before: bool, after: bool) -> None:
    options = {True: [EMA], False: []}
    run('train_cfg.max_epochs=1', *options[before])
    word = 'with' if before else 'without'
    with pytest.raises(ConfigError, match=f'was trained {word} EMAHook, but .*--load-from'):
        run('train_cfg.max_epochs=2', *options[after], resume=True)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'ema_type': 'EMA'}, 'ema_type must be one of'),
        ({'momentum': 1.0}, r'in \(0, 1\)'),
        ({'interval': 0}, 'interval'),
        ({'begin_iter': 1, 'begin_epoch': 1}, 'not both'),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EMAHook(**options)
