"""The host never waits for the device in training, except where the log reads the loss.

What would wait is counted on a CPU, where every call that could is seen, also on a machine with a
GPU; there CUDA itself is asked besides, with the training that it then has.
"""

import sys
from typing import Any

import lightning as L
import pytest
import torch

from psa_pose.engine.module import PoseModule
from psa_pose.models import TopdownPoseEstimator
from psa_pose.registry import HOOKS
from tests.engine.conftest import Run
from tests.engine.waits import Waits

INTERVAL = 3
EVERYTHING = [
    'train_cfg.max_epochs=2',
    'train_dataloader.num_workers=1',
    f'default_hooks.logger.interval={INTERVAL}',
    "optim_wrapper.type='AmpOptimWrapper'",
    'optim_wrapper.clip_grad=dict(max_norm=1.0)',
]
COUNTED = 'trainer.accelerator=cpu'  # which `Waits` is made for, also where a GPU is
HOOKED = "custom_hooks=[dict(type='EMAHook', update_buffers={}), dict(type='CountedSteps')]"


@pytest.fixture(autouse=True)
def the_way_to_the_device_does_not_count(monkeypatch: Any) -> None:
    """A batch's own checks read host memory, and `to` a GPU is no wait from pinned memory."""
    original = PoseModule.on_before_batch_transfer

    def uncounted(self: PoseModule, *args: Any) -> Any:
        Waits.current.step = None  # until the batch starts
        return original(self, *args)

    monkeypatch.setattr(PoseModule, 'on_before_batch_transfer', uncounted)


@pytest.mark.parametrize('bar', [False, True], ids=['lines', 'bar'])
@pytest.mark.parametrize('codec', ['MSRAHeatmap', 'UDPHeatmap'])
@pytest.mark.parametrize('batches', [1, 2])
def test_steps_do_not_wait(run: Run, monkeypatch: Any, bar: bool, codec: str, batches: int) -> None:
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: bar, raising=False)
    with Waits() as waits:
        run(
            *EVERYTHING,
            COUNTED,
            HOOKED.format(codec == 'MSRAHeatmap'),
            f'codec.type={codec}',
            f'optim_wrapper.accumulative_counts={batches}',
            f'trainer.enable_progress_bar={bar}',
        )
    logged = range(INTERVAL, 12 // batches + 1, INTERVAL)
    assert not [(s, w) for s, w in waits.found.items() if s not in logged]
    # One reading a logged step, and so the counter counts; after the last comes the evaluation.
    readings = [waits.found[step] for step in logged]
    assert readings[:-1] == [['tolist']] * (len(logged) - 1)
    assert readings[-1][0] == 'tolist'


@pytest.mark.parametrize(
    ('read', 'name'),
    [
        (lambda loss: loss.item(), '_local_scalar_dense.default'),
        (lambda loss: bool(loss > 0), '_local_scalar_dense.default'),
        (lambda loss: loss.detach().cpu(), 'cpu'),
        (lambda loss: loss.tolist(), 'tolist'),
        (lambda loss: loss.expand(3)[loss.expand(3) > 0], 'index.Tensor'),
        (lambda loss: loss * torch.tensor(1.0), 'tensor'),
    ],
    ids=['item', 'bool', 'cpu', 'tolist', 'mask', 'tensor'],
)
def test_a_reading_of_the_loss_is_found(run: Run, monkeypatch: Any, read: Any, name: str) -> None:
    original = TopdownPoseEstimator.loss

    def reading(self: TopdownPoseEstimator, batch: Any) -> Any:
        loss = original(self, batch)
        read(loss)
        return loss

    monkeypatch.setattr(TopdownPoseEstimator, 'loss', reading)
    with Waits() as waits:
        run('train_cfg.max_epochs=1', COUNTED, "custom_hooks=[dict(type='CountedSteps')]")
    assert all(name in waits.found[step] for step in range(1, 7))


@HOOKS.register_module(force=True)
class ErrorsForWaits(L.Callback):
    """Lets CUDA itself raise an error in every step that does not log, the first two aside."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        step = trainer.global_step + 1
        torch.cuda.set_sync_debug_mode('error' if step > 2 and step % INTERVAL else 'default')

    def on_train_epoch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode('default')

    on_exception = on_validation_start = on_train_epoch_end


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('compiled', [False, True])
def test_cuda_itself_sees_no_wait(run: Run, compiled: bool) -> None:
    Waits()
    run(
        *EVERYTHING,
        "custom_hooks=[dict(type='EMAHook'), dict(type='ErrorsForWaits')]",
        f'compile={compiled}',
    )
