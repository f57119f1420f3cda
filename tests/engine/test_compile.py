"""The compiled training step: one graph, the eager one's losses, checkpoints as ever."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tests.engine.conftest import Run, forget, last_of

# A network that compiles in seconds: the way of the compiled step is the same for all.
SMALL = [
    'model.backbone=dict(_delete_=True, type="ResNet", depth=18)',
    'model.head=dict(_delete_=True, type="HeatmapHead", deconv_out_channels=(16, 16, 16))',
    'codec.input_size=(64, 64)',
    'codec.heatmap_size=(16, 16)',
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(backend: str) -> str:
    return f'compile=dict(backend="{backend}", fullgraph=True)'


@pytest.mark.slow
def test_one_graph_for_training_evaluation_and_flip_test(run: Run, tmp_path: Path) -> None:
    """Also with EMA, accumulation and mixed precision; the demo's own network, PSA and all."""
    options = [
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=1',
        'model.test_cfg.flip_test=True',
        'optim_wrapper.accumulative_counts=4',
        "optim_wrapper.type='AmpOptimWrapper'",
        "custom_hooks=[dict(type='EMAHook', momentum=0.3)]",
    ]
    eager = run(*options)
    keys = last_of(tmp_path).keys(), last_of(tmp_path)['state_dict'].keys()
    forget(tmp_path)
    losses = run(*options, compiled('aot_eager'))
    assert 'compiled (backend=aot_eager, fullgraph=True)' in run.log
    assert counters['stats']['unique_graphs'] == 1
    checkpoint = last_of(tmp_path)
    assert (checkpoint.keys(), checkpoint['state_dict'].keys()) == keys
    for (step, loss, rate), (_, expected, expected_rate) in zip(losses, eager, strict=True):
        assert loss == pytest.approx(expected, rel=2e-2), step
        assert rate == expected_rate


@pytest.mark.slow
def test_a_compiled_run_resumes_exactly(run: Run, tmp_path: Path) -> None:
    options = [*SMALL, compiled('aot_eager'), 'param_scheduler=[]']
    whole = run(*options, 'train_cfg.max_epochs=3')
    forget(tmp_path)
    run(*options, 'train_cfg.max_epochs=1')
    assert run(*options, 'train_cfg.max_epochs=3', resume=True) == whole[6:]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='the CPU inductor needs g++')
def test_the_inductors_losses_are_the_eager_ones(
    run: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    options = [*SMALL, 'train_cfg.max_epochs=2']
    eager = run(*options)
    forget(tmp_path)
    losses = run(*options, 'compile=True')
    assert 'compiled (inductor)' in run.log
    assert counters['inductor'], 'the inductor has compiled nothing'
    for (step, loss, _), (_, expected, _) in zip(losses, eager, strict=True):
        assert loss == pytest.approx(expected, rel=1e-3), step
