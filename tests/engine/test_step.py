"""What a config says of a step, and what Lightning is told."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from psa_pose.engine import step as step_module
from psa_pose.engine.config import load_config
from psa_pose.engine.environment import environment
from psa_pose.engine.ranks import Ranks
from psa_pose.engine.step import StepOptions, step_options
from psa_pose.engine.trainer import build_trainer
from psa_pose.errors import ConfigError
from psa_pose.registry import HOOKS
from tests.engine.conftest import Run, forget

CONFIG = 'coco/hrnet_w32_256x192.py'


def options(*changes: str) -> StepOptions:
    return step_options(load_config(CONFIG, changes))


@pytest.fixture
def gpu(monkeypatch: Any):
    """Say that there is a GPU, with bfloat16 or without."""

    def pretend(bfloat16: bool) -> None:
        monkeypatch.setattr(step_module, 'gpus', lambda: 1)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bfloat16)

    return pretend


def test_the_defaults_without_a_gpu() -> None:
    step = options()
    assert step.device == 'cpu'
    assert str(step) == 'float32, channels last, not compiled; evaluation in float32'
    assert step.trainer_arguments() == {
        'precision': '32-true',
        'accumulate_grad_batches': 1,
        'gradient_clip_val': None,
        'gradient_clip_algorithm': None,
        'benchmark': True,
        'deterministic': None,
    }


def test_the_defaults_with_a_gpu(gpu: Any) -> None:
    gpu(bfloat16=True)
    assert str(options()) == (
        'bfloat16 autocast, channels last, cuDNN benchmark, not compiled; evaluation in float32'
    )
    assert options('optim_wrapper.type=OptimWrapper').dtype == 'float32'
    assert options('trainer.accelerator=cpu').dtype == 'float32'
    assert not options('randomness.deterministic=True').trainer_arguments()['benchmark']
    assert options('val_cfg.fp16=True').eval_dtype == 'float16'
    half = options('optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.dtype=float16')
    assert half.trainer_arguments()['precision'] == '16-mixed'


def test_a_gpu_without_bfloat16_stays_in_float32_until_asked(gpu: Any) -> None:
    gpu(bfloat16=False)
    assert options().dtype == 'float32'
    assert options('optim_wrapper.type=AmpOptimWrapper').dtype == 'float16'


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        (['type=AmpOptimWrapper'], {'precision': 'bf16-mixed'}),
        (['accumulative_counts=4'], {'accumulate_grad_batches': 4}),
        (
            ['clip_grad=dict(max_norm=35, norm_type=2)'],
            {'gradient_clip_val': 35.0, 'gradient_clip_algorithm': 'norm'},
        ),
        (
            ['clip_grad=dict(type="value", clip_value=0.2)'],
            {'gradient_clip_val': 0.2, 'gradient_clip_algorithm': 'value'},
        ),
    ],
)
def test_mmengines_words_become_lightnings(changes: list[str], expected: dict[str, Any]) -> None:
    arguments = options(*(f'optim_wrapper.{change}' for change in changes)).trainer_arguments()
    assert arguments.items() >= expected.items()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('optim_wrapper.type=AmpOptimWraper', "unknown 'AmpOptimWraper'; did you mean 'AmpOptimWr"),
        ('optim_wrapper.dtype=bfloat16', "optim_wrapper.dtype: 'bfloat16' is AmpOptimWrapper's"),
        ('optim_wrapper=dict(type="AmpOptimWrapper", dtype="fp8")', "'float16', got 'fp8'"),
        ('optim_wrapper=dict(type="AmpOptimWrapper", dtype="float16")', 'float16 needs a GPU'),
        ('optim_wrapper.clip_grad=dict(max_nrom=1)', "clip_grad: no option 'max_nrom'"),
        ('optim_wrapper.clip_grad=dict()', 'max_norm: expected a positive number, got None'),
        ('optim_wrapper.clip_grad=dict(max_norm=-1)', 'max_norm: expected a positive number'),
        ('optim_wrapper.clip_grad=dict(max_norm=1, norm_type=1)', 'norm_type: only 2'),
        ('optim_wrapper.clip_grad=dict(type="vale")', r"'norm' or 'value', got 'vale'"),
        ('optim_wrapper.accumulative_counts=0', 'accumulative_counts: expected a whole number'),
        ('env_cfg.cudnn_benchmark=1', 'cudnn_benchmark: expected True or False, got 1'),
        ('env_cfg.mp_cfg=dict()', "env_cfg: no option 'mp_cfg'"),
        ('val_cfg.fp61=True', "val_cfg: no option 'fp61'; did you mean 'fp16'"),
        ('compile=dict(mod="default")', "compile: no option 'mod'; did you mean 'mode'"),
        ('compile=yes', r"compile: expected dict\(\.\.\.\), got 'yes'"),
    ],
)
def test_what_nothing_reads_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(change)


@pytest.mark.parametrize(
    'how', ['mode="reduce-overhead"', 'mode="max-autotune"', 'options={"triton.cudagraphs": True}']
)
def test_graphs_that_would_reuse_the_memory_of_gradients_are_refused(how: str) -> None:
    assert options(f'compile=dict({how})').compile
    assert options('compile=True', 'optim_wrapper.accumulative_counts=2').compile == {}
    with pytest.raises(ConfigError, match=r"adds up 2 .*mode='max-autotune-no-cud"):
        options(f'compile=dict({how})', 'optim_wrapper.accumulative_counts=2')


def test_a_gpu_that_cannot_be_used_is_no_reason_to_train_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver's library counts it, and CUDA of a newer PyTorch refuses the driver."""

    def refuse() -> None:
        raise RuntimeError(
            'The NVIDIA driver on your system is too old (found version 12080).\nMore'
        )

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'init', refuse)
    with pytest.raises(ConfigError, match=r'too old \(found version 12080\)\. \(psa-pose'):
        options()
    assert options('trainer.accelerator=cpu').device == 'cpu'
    assert environment()['gpus'] == [] and environment()['versions']['cuda'] is None


@pytest.mark.parametrize('key', step_module.MOVED)
def test_one_thing_has_one_place(key: str) -> None:
    cfg = load_config(CONFIG, [f'trainer.{key}=1', 'work_dir=unused'])
    with pytest.raises(ConfigError, match=rf'trainer\.{key}: a config says this as [a-z_]+'):
        build_trainer(cfg, step_options(cfg), Ranks(), plain=True)


def test_hooks_that_cannot_run_are_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"custom_hooks\.0: .*'EMAHok'; did you mean 'EMAHook'"):
        run("custom_hooks=[dict(type='EMAHok')]")
    HOOKS.register_module(name='RunnerHook', module=object, force=True)
    with pytest.raises(ConfigError, match=r'custom_hooks\.0: object is no lightning.Callback'):
        run("custom_hooks=[dict(type='RunnerHook')]")
    with pytest.raises(ConfigError, match=r'custom_hooks\.0 \(EMAHook\): momentum, the share of'):
        run("custom_hooks=[dict(type='EMAHook', momentum=0)]")


def test_optimizers_are_fused_where_that_is_right() -> None:
    adam, rms = torch.optim.Adam, torch.optim.RMSprop
    assert StepOptions().fuses(adam, {'lr': 1})
    assert not StepOptions().fuses(adam, {'fused': False})
    assert not StepOptions().fuses(adam, {'foreach': True})
    assert not StepOptions().fuses(rms, {})
    assert StepOptions(dtype='float16').fuses(adam, {})
    assert not StepOptions(dtype='float16', clip=('norm', 1.0)).fuses(adam, {})
    assert StepOptions(dtype='bfloat16').fuses(torch.optim.SGD, {})
    assert not StepOptions(dtype='float16').fuses(torch.optim.SGD, {})


def test_the_first_lines_say_what_is_on(run: Run) -> None:
    run(
        'train_cfg.max_epochs=1',
        'optim_wrapper=dict(type="AmpOptimWrapper", accumulative_counts=2, '
        'clip_grad=dict(max_norm=1))',
        "custom_hooks=[dict(type='EMAHook', momentum=0.1)]",
        'env_cfg.channels_last=False',
    )
    assert 'optimizer AdamW, learning rate' in run.log and ', fused\n' in run.log
    assert (
        'step      bfloat16 autocast, not compiled, 2 batches a step, gradients clipped by norm 1; '
        'evaluation in float32\n'
    ) in run.log
    assert 'hook      EMAHook: ExponentialMovingAverage, momentum 0.1\n' in run.log


class Gradients(L.Callback):
    """Keeps the gradient of every optimizer step."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        type(self).last = self

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.steps.append(torch.cat([p.grad.flatten() for p in module.parameters()]))


def test_a_window_cut_off_by_the_epochs_end_is_the_mean_of_its_own_batches(
    run: Run, tmp_path: Path
) -> None:
    HOOKS.register_module(name='Gradients', module=Gradients, force=True)

    def gradients(batches: int) -> list[torch.Tensor]:
        run(
            "custom_hooks=[dict(type='Gradients')]",
            # The weights stay what they are, so that every gradient is taken at the same place.
            "optim_wrapper.optimizer=dict(_delete_=True, type='SGD', lr=1e-30)",
            f'optim_wrapper.accumulative_counts={batches}',
            'train_cfg.max_epochs=1',
        )
        forget(tmp_path)
        return Gradients.last.steps

    each, windows = gradients(1), gradients(4)
    assert (len(each), len(windows)) == (6, 2)
    for window, batches in zip(windows, (each[:4], each[4:]), strict=True):
        expected = torch.stack(batches).mean(0)
        assert float((window - expected).norm() / expected.norm()) < 1e-4
