"""The host never waits for the device within an evaluation: predictions are read at its end."""

from typing import Any

import lightning as L
import pytest
import torch

from psa_pose.codecs import MSRAHeatmap, blur, blurred_maximum, refine
from psa_pose.registry import HOOKS
from tests.engine.conftest import Run
from tests.engine.waits import Waits

CODECS = {
    'MSRA': ['codec.unbiased=False'],
    'DARK': ['codec.unbiased=True'],
    'UDP': ['codec.type=UDPHeatmap'],
    'offsets': [
        'codec.type=UDPHeatmap',
        'codec.heatmap_type=combined',
        "model.head.loss=dict(type='CombinedTargetMSELoss')",
    ],
}


@HOOKS.register_module(force=True)
class CountedBatches(L.Callback):
    """Says which batch of an evaluation it is, counted from 1; between batches none."""

    def on_validation_batch_start(self, t: Any, m: Any, batch: Any, i: int, *_: Any) -> None:
        Waits.current.step = i + 1

    def on_validation_batch_end(self, *_: Any) -> None:
        Waits.current.step = None


@pytest.fixture
def evaluate(run: Run, monkeypatch: Any) -> Any:
    """Three batches; what waited in each."""

    def function(*options: str) -> dict[int, list[str]]:
        for module in (refine, blurred_maximum):  # as on a GPU
            monkeypatch.setattr(module, 'may_choose', lambda maps: False)
        blur._kept_matrix.cache_clear()
        with Waits() as waits:
            run(
                'train_cfg.max_epochs=1',
                'trainer.limit_train_batches=1',
                'trainer.limit_val_batches=3',
                'val_dataloader.batch_size=4',
                'default_hooks.visualization.enable=False',
                "custom_hooks=[dict(type='EMAHook'), dict(type='CountedBatches')]",
                *options,
            )
        return waits.found

    return function


@pytest.mark.parametrize('flip', [False, True], ids=['plain', 'flip_test'])
@pytest.mark.parametrize('codec', CODECS)
def test_batches_do_not_wait(evaluate: Any, codec: str, flip: bool) -> None:
    found = evaluate(*CODECS[codec], f'model.test_cfg.flip_test={flip}')
    constants = found.pop(1, [])  # of the blur, once a process; so the counter counts
    assert set(constants) == (set() if codec == 'MSRA' else {'tensor'})
    assert not found


def test_a_constant_of_every_batch_is_found(evaluate: Any, monkeypatch: Any) -> None:
    original = MSRAHeatmap.decode

    def decode(self: MSRAHeatmap, heatmaps: torch.Tensor) -> Any:
        return original(self, heatmaps * heatmaps.new_tensor([1.0]))

    monkeypatch.setattr(MSRAHeatmap, 'decode', decode)
    assert evaluate() == {batch: ['new_tensor'] for batch in (1, 2, 3)}
