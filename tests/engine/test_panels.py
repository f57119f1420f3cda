"""Pictures at every evaluation: there, of the weights that are evaluated, and without a trace."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from psa_pose.engine.panels import Panels
from psa_pose.errors import ConfigError
from tests.engine.conftest import Configure, Run, forget, last_of

# Two steps an epoch.
EVALUATED = (
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'trainer.limit_train_batches=2',
    'trainer.limit_val_batches=1',
    'val_dataloader.batch_size=8',
)
EMA = "custom_hooks=[dict(type='EMAHook', momentum=0.1)]"


def off(on: bool) -> str:
    return f'default_hooks.visualization.enable={on}'


def pictures(folder: Path) -> list[Any]:
    events = EventAccumulator(str(folder / 'run/tensorboard'), size_guidance={'images': 0})
    events.Reload()
    assert ('persons' in events.Tags()['images']) or not events.Tags()['images']
    return events.Images('persons') if events.Tags()['images'] else []


def test_a_sheet_an_evaluation(run: Run, tmp_path: Path) -> None:
    run(*EVALUATED, 'default_hooks.visualization.persons=3')
    found = pictures(tmp_path)
    assert [picture.step for picture in found] == [1, 3]  # as AP, steps counted from 0
    sheets = [
        cv2.imdecode(np.frombuffer(p.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        for p in found
    ]
    assert all(sheet.shape == (found[0].height, found[0].width, 3) for sheet in sheets)
    # Truth, pose, heatmaps and four stages of HRNet, each 192 pixels wide, and margins.
    assert sheets[0].shape[1] == 7 * 200
    left = [sheet[:, :192].astype(int) for sheet in sheets]
    assert np.abs(left[0] - left[1]).mean() < 1  # the same persons
    assert np.abs(sheets[0].astype(int) - sheets[1]).mean() > 1  # another prediction


def test_training_is_the_same_to_the_last_bit(run: Run, tmp_path: Path) -> None:
    curves, saved, drawn = [], [], []
    for on in (True, False):
        curves.append(run(*EVALUATED, EMA, off(on), 'train_cfg.max_epochs=3'))
        saved.append(last_of(tmp_path))
        drawn.append(len(pictures(tmp_path)))
        forget(tmp_path)
        for file in (tmp_path / 'run/tensorboard').iterdir():
            file.unlink()
    assert drawn == [3, 0]
    assert curves[0] == curves[1]
    for key in ('state_dict', 'current_model_state'):
        torch.testing.assert_close(saved[0][key], saved[1][key], rtol=0, atol=0)
    states = [content['optimizer_states'][0]['state'] for content in saved]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_what_is_drawn_is_what_is_evaluated(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    original = Panels.sheet

    def watched(self: Panels, module: Any) -> np.ndarray:
        assert not module.estimator.training
        states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        before = {k: v.clone() for k, v in module.estimator.state_dict().items()}
        sheet = original(self, module)
        after = module.estimator.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert torch.equal(states[0], torch.get_rng_state())
        assert (states[1] == np.random.get_state()[1]).all()  # type: ignore[index]
        seen.append(before)
        return sheet

    monkeypatch.setattr(Panels, 'sheet', watched)
    run(*EVALUATED, EMA, 'train_cfg.max_epochs=1')
    saved = last_of(tmp_path)
    (weights,) = seen
    torch.testing.assert_close(weights, saved['state_dict'], rtol=0, atol=0)  # the average
    key = 'backbone.conv1.weight'
    assert not torch.equal(weights[key], saved['current_model_state'][key])


def test_interval_and_the_last_epoch(run: Run, tmp_path: Path) -> None:
    run(*EVALUATED, 'train_cfg.max_epochs=4', 'default_hooks.visualization.interval=2')
    assert [picture.step for picture in pictures(tmp_path)] == [1, 5, 7]


def test_a_picture_that_cannot_be_made_costs_nothing_else(
    configure: Configure, tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    from psa_pose.engine.train import train

    def fails(self: Panels, module: Any) -> np.ndarray:
        raise RuntimeError('out of memory')

    monkeypatch.setattr(Panels, 'sheet', fails)
    train(configure(*EVALUATED))
    warning = 'warning: no pictures of this evaluation: RuntimeError: out of memory'
    assert capfd.readouterr().err.count(warning) == 1
    assert last_of(tmp_path)['global_step'] == 4
    assert not pictures(tmp_path)


@pytest.mark.parametrize('option', ['persons=0', 'interval=0', 'enable=3', 'person=3'])
def test_bad_options(run: Run, option: str) -> None:
    with pytest.raises(ConfigError, match=r'default_hooks\.visualization'):
        run(f'default_hooks.visualization.{option}')
