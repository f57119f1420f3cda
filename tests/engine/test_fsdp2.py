"""FSDP2 on real ranks: the numbers of DDP, half of its memory, and checkpoints for everyone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from psa_pose.engine import fsdp2
from psa_pose.engine.build import build_model
from psa_pose.models.backbones.blocks import BasicBlock, Bottleneck
from tests.engine.ranked import SGD, Trained, assert_same_losses, difference, train_on
from tests.engine.witness import witness, witnessed

pytestmark = pytest.mark.cluster

FSDP2 = "model_wrapper_cfg=dict(type='FSDP2')"
# Where a gradient is zero but for rounding, a smaller eps would make a whole step of the rounding.
ADAM = "optim_wrapper.optimizer=dict(_delete_=True, type='AdamW', lr=3e-5, eps=1e-3)"
EMA = (
    "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
    "val_evaluator = dict(_delete_=True, type='EPE')\n"
    "default_hooks = dict(checkpoint=dict(save_best='EPE', rule='min'))"
)
CLIP = 'optim_wrapper.clip_grad=dict(max_norm=0.005)'  # a fifth of these gradients' norm
EPOCHS = 'train_cfg.max_epochs=2'
# Before training, after each epoch; three batches, two of them rank 0's.
EVALUATIONS = [
    'trainer.num_sanity_val_steps=1',
    'train_cfg.val_interval=1',
    'val_dataloader.batch_size=5',
]


def run(root: Path, folder: Path, name: str, *more: str, **spoil: int) -> Trained:
    """Two ranks, 12 steps, with averaged weights, clipped gradients, evaluations."""
    config = witness(folder / f'{name}_seen', EMA, **spoil)
    return train_on(2, root, folder / name, EPOCHS, CLIP, *EVALUATIONS, *more, config=config)


@pytest.fixture(scope='module', params=[SGD, ADAM], ids=['SGD', 'AdamW'])
def both(
    request: Any, demo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Trained, Trained]:
    """The same training with DDP and with FSDP2."""
    folder = tmp_path_factory.mktemp('both')
    ddp = run(demo_root, folder, 'ddp', request.param)
    return folder, ddp, run(demo_root, folder, 'fsdp2', request.param, FSDP2)


def test_numbers_of_ddp(both: tuple[Path, Trained, Trained]) -> None:
    _, ddp, fsdp2 = both
    assert_same_losses(fsdp2.losses, ddp.losses)
    found, expected = fsdp2.checkpoint, ddp.checkpoint
    for key in ('state_dict', 'current_model_state'):
        assert difference(found[key], expected[key]) < 1e-5
    assert difference(expected['state_dict'], expected['current_model_state']) > 1e-4
    (ours, theirs) = (c['meta']['metrics']['EPE'] for c in (found, expected))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_rank_holds_half(both: tuple[Path, Trained, Trained]) -> None:
    folder = both[0]
    for whole, shares in zip(
        zip(*witnessed(folder / 'ddp_seen'), strict=True),
        zip(*witnessed(folder / 'fsdp2_seen'), strict=True),
        strict=True,
    ):
        for what, size in whole[0]['bytes'].items():
            parts = [share['bytes'][what] for share in shares]
            assert size > 3e6 / 4 and sum(parts) == size, what
            assert max(parts) < 0.52 * size, what


def test_checkpoints_are_ddps(both: tuple[Path, Trained, Trained]) -> None:
    _, ddp, fsdp2 = both
    assert form(fsdp2.checkpoint) == form(ddp.checkpoint)
    assert sorted(p.name for p in fsdp2.folder.iterdir()) == sorted(
        p.name for p in ddp.folder.iterdir()
    )


def form(value: Any) -> Any:
    """Names, shapes, types and numbers of tensors; what else there is, but for paths."""
    if isinstance(value, Mapping):
        skip = ('fused', 'foreach', 'callbacks')  # which kernels; folders of this run
        return {key: form(item) for key, item in value.items() if key not in skip}
    if isinstance(value, list | tuple):
        return [form(item) for item in value]
    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), value.dtype, value.device, type(value))
    return type(value)


@pytest.mark.parametrize('optimizer', [SGD, ADAM], ids=['SGD', 'AdamW'])
def test_any_strategy_goes_on_with_any_checkpoint(
    demo_root: Path, tmp_path: Path, optimizer: str
) -> None:
    """DDP, FSDP2, one process, FSDP2; against one process that was never stopped."""
    ema = witness(tmp_path / 'seen', EMA)
    alone = train_on(
        1, demo_root, tmp_path / 'alone', 'train_cfg.max_epochs=4', optimizer, config=ema
    )
    legs = [(2, []), (2, [FSDP2]), (1, []), (2, [FSDP2])]
    for epoch, (ranks, more) in enumerate(legs, 1):
        epochs = f'train_cfg.max_epochs={epoch}'
        found = train_on(
            ranks,
            demo_root,
            tmp_path / 'run',
            epochs,
            optimizer,
            *more,
            resume=epoch > 1,
            config=ema,
        )
    assert_same_losses(found.losses, alone.losses)
    for key in ('state_dict', 'current_model_state'):
        assert difference(found.checkpoint[key], alone.checkpoint[key]) < 1e-4


def test_all_its_options_under_autocast(demo_root: Path, tmp_path: Path) -> None:
    """Near DDP's numbers, no nearer than bfloat16 is; windows of two batches."""
    amp = ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.accumulative_counts=2']
    options = "type='FSDP2', reshard_after_forward=False, grad_compression='bf16'"
    ddp = train_on(2, demo_root, tmp_path / 'ddp', EPOCHS, *amp)
    fsdp2 = train_on(
        2, demo_root, tmp_path / 'fsdp2', EPOCHS, *amp, f'model_wrapper_cfg=dict({options})'
    )
    assert len(fsdp2.losses) == 6
    assert_same_losses(fsdp2.losses, ddp.losses, 1e-2)
    assert 0 < difference(fsdp2.checkpoint['state_dict'], ddp.checkpoint['state_dict']) < 1e-2
    assert all(v.dtype != torch.bfloat16 for v in fsdp2.checkpoint['state_dict'].values())


@pytest.mark.parametrize(
    ('optimizer', 'more'),
    [(SGD, [FSDP2]), (ADAM, [FSDP2]), (ADAM, [])],
    ids=['SGD-FSDP2', 'AdamW-FSDP2', 'AdamW-DDP'],
)
def test_a_step_that_one_rank_spoils_is_skipped_by_all(
    demo_root: Path, tmp_path: Path, optimizer: str, more: list[str]
) -> None:
    found = run(demo_root, tmp_path, 'run', optimizer, *more, spoil_rank=1, spoil_step=3)
    for rank in witnessed(tmp_path / 'run_seen'):
        weights = [step['weights'] for step in rank]
        statistics = [step['statistics'] for step in rank]
        assert weights[3] == weights[2] and statistics[3] == statistics[2]
        assert len(set(weights)) == len(set(statistics)) == 11
    state = found.checkpoint['current_model_state']
    assert all(bool(value.isfinite().all()) for value in state.values())


@pytest.mark.parametrize('name', ['simplebaseline_r50_psa_p', 'hrnet_w48_psa_p'])
def test_units_are_of_a_useful_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    least, most = 100_000, 4_000_000
    monkeypatch.setattr(fsdp2, 'UNIT', (least, most))  # and not what the witness sets
    model = build_model(f'coco/{name}_256x192.py')
    parts = list(fsdp2.units(model))
    sizes = [sum(p.numel() for p in part.parameters()) for part in parts]
    covered = [id(p) for part in parts for p in part.parameters()]
    assert len(set(covered)) == len(covered)
    whole = sum(p.numel() for p in model.parameters())
    assert sum(sizes) > 0.9 * whole
    assert min(sizes) >= least and max(sizes) < 0.25 * whole
    for part, size in zip(parts, sizes, strict=True):
        assert type(part).forward is not nn.Module.forward  # ModuleList has none
        assert size <= most or isinstance(part, BasicBlock | Bottleneck | nn.ConvTranspose2d)
