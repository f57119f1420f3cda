"""`model_wrapper_cfg`: what is refused, and that no option changes what is computed."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from mmengine.config import Config
from torch import nn

from psa_pose.engine.fsdp2 import FSDP2Strategy
from psa_pose.engine.nonfinite import NonFiniteGuard
from psa_pose.engine.ranks import Launch
from psa_pose.engine.step import StepOptions
from psa_pose.engine.strategy import SYNC_BUFFERS, build_strategy, strategy_text
from psa_pose.errors import ConfigError
from tests.engine.ranked import Trained, assert_same_losses, difference, train_on
from tests.engine.together import on_ranks
from tests.engine.witness import witness, witnessed

TWO = Launch(ranks=2)
EPOCHS = 'train_cfg.max_epochs=2'


def strategy(launch: Launch = TWO, step: StepOptions | None = None, **wrapper: Any) -> Any:
    cfg = Config({'model_wrapper_cfg': wrapper} if wrapper else {})
    return build_strategy(cfg, launch, step or StepOptions())


def test_ddp_is_the_default() -> None:
    for found in (strategy(), strategy(type='DistributedDataParallel')):
        assert isinstance(found, DDPStrategy)
        assert found._ddp_kwargs == {
            'gradient_as_bucket_view': True,
            'static_graph': False,
            'bucket_cap_mb': 25,
            'find_unused_parameters': False,
            SYNC_BUFFERS: False,
        }


def test_fsdp2_is_a_switch() -> None:
    found = strategy(type='FSDP2', grad_compression='bf16', reshard_after_forward=False)
    assert isinstance(found, FSDP2Strategy)
    assert (found.reduce_dtype, found.reshard_after_forward) == (torch.bfloat16, False)


def test_the_first_lines_say_what_is_not_as_usual() -> None:
    assert strategy_text(Config({})) == "DistributedDataParallel, each rank's own BatchNorm"
    wrapper = {'type': 'FSDP2', 'grad_compression': 'bf16', 'reshard_after_forward': True}
    assert strategy_text(Config({'model_wrapper_cfg': wrapper, 'sync_bn': 'torch'})) == (
        'FSDP2, grad_compression=bf16, BatchNorm over all ranks'
    )


@pytest.mark.parametrize('kind', ['DistributedDataParallel', 'FSDP2'])
def test_one_process_needs_none(kind: str) -> None:
    assert strategy(Launch(), type=kind) == 'auto'


@pytest.mark.parametrize('launch', [Launch(), TWO])
@pytest.mark.parametrize(
    ('wrapper', 'message'),
    [
        ({'type': 'MMDistributedDataParallel'}, 'did you mean .DistributedDataParallel.'),
        ({'type': 'FSDP'}, "unknown 'FSDP'; did you mean 'FSDP2'"),
        ({'static_grahp': True}, "no option 'static_grahp'; did you mean 'static_graph'"),
        ({'broadcast_buffers': True}, "no option 'broadcast_buffers'"),
        ({'type': 'FSDP2', 'static_graph': True}, "no option 'static_graph'"),
        ({'static_graph': 1}, 'static_graph: expected True or False, got 1'),
        ({'bucket_cap_mb': 0}, 'bucket_cap_mb: expected a whole number from 1 on, got 0'),
        ({'grad_compression': 'fp16'}, "grad_compression must be 'bf16' or None, got 'fp16'"),
    ],
)
def test_what_nothing_reads_is_refused(
    launch: Launch, wrapper: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f'model_wrapper_cfg.*{message}'):
        strategy(launch, **wrapper)


@pytest.mark.parametrize(
    ('wrapper', 'step', 'message'),
    [
        ({'type': 'FSDP2'}, StepOptions(compile={}), 'compile makes one graph'),
        ({'type': 'FSDP2'}, StepOptions(dtype='float16'), 'not float16'),
        ({'static_graph': True}, StepOptions(accumulate=2), 'accumulative_counts=2'),
    ],
)
def test_what_does_not_go_together_is_refused(
    wrapper: dict[str, Any], step: StepOptions, message: str
) -> None:
    with pytest.raises(ConfigError, match=f'model_wrapper_cfg.*{message}'):
        strategy(step=step, **wrapper)
    assert isinstance(strategy(step=step), DDPStrategy)


EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]"
MORE = [
    'optim_wrapper.clip_grad=dict(max_norm=0.01)',
    "freeze=['backbone.conv1', 'backbone.bn1', 'backbone.layer1']",
]


@pytest.mark.slow
def test_options_change_no_number(demo_root: Path, tmp_path: Path) -> None:
    """With clipping, averages, frozen parts and, where it can be, accumulation, all at once."""

    def run(name: str, *more: str) -> Trained:
        config = witness(tmp_path / f'{name}_seen', EMA, spoil_rank=1, spoil_step=1)
        return train_on(2, demo_root, tmp_path / name, *MORE, *more, config=config)

    off = 'model_wrapper_cfg=dict(gradient_as_bucket_view=False)'
    static = 'model_wrapper_cfg=dict(static_graph=True)'
    small = 'model_wrapper_cfg=dict(bucket_cap_mb=1, find_unused_parameters=True)'
    # The last window of an epoch has two batches.
    windows = ['train_cfg.max_epochs=4', 'optim_wrapper.accumulative_counts=4']
    for i, (changed, rest) in enumerate([(static, [EPOCHS]), (small, windows)]):
        plain, found = run(f'plain{i}', off, *rest), run(f'found{i}', changed, *rest)
        assert len(found.losses) == (12, 8)[i]
        assert_same_losses(found.losses, plain.losses, 1e-6)
        for key in ('state_dict', 'current_model_state'):
            assert difference(found.checkpoint[key], plain.checkpoint[key]) < 1e-6


def test_compressed_gradients_are_near_and_not_the_same(demo_root: Path, tmp_path: Path) -> None:
    compressed = "model_wrapper_cfg=dict(grad_compression='bf16')"
    plain, found = (
        train_on(2, demo_root, tmp_path / f'run{i}', 'train_cfg.max_epochs=1', *more)
        for i, more in enumerate(([], [compressed]))
    )
    assert_same_losses(found.losses, plain.losses, 1e-2)
    assert abs(found.losses[6] - plain.losses[6]) > 1e-6 * plain.losses[6]


def test_without_sync_bn_ranks_still_agree_on_statistics_and_averages(
    demo_root: Path, tmp_path: Path
) -> None:
    """Each rank normalises by its own batch; what an evaluation reads is their mean, on all."""
    config = witness(tmp_path / 'seen', EMA)
    own = 'sync_bn=None'
    found = train_on(2, demo_root, tmp_path / 'run', EPOCHS, own, config=config)
    one, two = witnessed(tmp_path / 'seen')
    for key in ('weights', 'statistics', 'average'):
        assert [step[key] for step in one] == [step[key] for step in two]
        assert len({step[key] for step in one}) == 12
    together = train_on(2, demo_root, tmp_path / 'together', EPOCHS)
    assert abs(found.losses[1] - together.losses[1]) > 1e-4 * together.losses[1]


def _guarded(rank: int, spoiled: int) -> dict[str, torch.Tensor]:
    """One step of two ranks with statistics of their own; `spoiled` has a gradient of nan."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(1).eval())
    module = SimpleNamespace(
        modules=model.modules, persons=deque([np.zeros(1)]), last_loss=torch.zeros(())
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer: Any = SimpleNamespace(world_size=2, precision_plugin=None)
    guard = NonFiniteGuard(0, None, Path())  # type: ignore[arg-type]
    guard.on_train_start(trainer, module)  # type: ignore[arg-type]
    for layer in model:
        layer.running_mean.fill_(1 + 2 * rank)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float('nan') if rank == spoiled else 1)
    guard.on_before_optimizer_step(trainer, module, optimizer)
    optimizer.step()
    return {**model.state_dict(), 'skipped': guard.pending()[0]}


@pytest.mark.parametrize('spoiled', [-1, 1])
def test_statistics_become_their_mean_where_the_step_counts(tmp_path: Path, spoiled: int) -> None:
    for rank, state in enumerate(on_ranks(2, tmp_path, _guarded, spoiled)):
        skipped = spoiled >= 0
        assert bool(state['skipped']) == skipped
        assert state['0.running_mean'].tolist() == ([0, 0] if skipped else [2, 2])
        assert state['1.running_mean'].tolist() == [1 + 2 * rank]  # frozen: not its business
        assert state['0.weight'].tolist() == ([1, 1] if skipped else [0, 0])
