"""TensorBoard's curves on a file system that fails: points are lost, and nothing else."""

import os
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from psa_pose.engine.event_log import EventLog


def steps(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars('loss')]


def test_points_are_lost_and_the_curve_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(tmp_path / 'w', name='', version='tensorboard', purge_step=3)
    log.log_metrics({'loss': 1.0}, 3)
    log.save()
    os.rename(tmp_path / 'w', tmp_path / 'away')
    for step in range(4, 8):
        log.log_metrics({'loss': 1.0}, step)
        log.save()
    assert not (tmp_path / 'w').exists()  # below a mount point nobody would find it again
    os.rename(tmp_path / 'away', tmp_path / 'w')
    for step in (8, 9):
        log.log_metrics({'loss': 1.0}, step)
    log.finalize('success')
    assert steps(tmp_path / 'w/tensorboard') == [3, 8, 9]
    (said,) = capfd.readouterr().err.splitlines()  # once, and no traceback of a thread
    assert said.startswith(f'warning: cannot write to {tmp_path}/w/tensorboard: ')


def test_what_is_wrong_from_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / 'w').touch()
    log = EventLog(tmp_path / 'w', name='', version='tensorboard')
    with pytest.raises((OSError, ValueError)):
        log.log_metrics({'loss': 1.0}, 1)


def test_a_value_that_is_none_is_an_error(tmp_path: Path) -> None:
    log = EventLog(tmp_path, name='', version='tensorboard')
    with pytest.raises(ValueError, match='not supported'):
        log.log_metrics({'loss': object()}, 1)  # type: ignore[dict-item]


def test_pictures_are_lost_like_points(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = EventLog(tmp_path / 'w', name='', version='tensorboard')
    sheet = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    for step in range(6):
        if step == 2:
            os.rename(tmp_path / 'w', tmp_path / 'away')
        if step == 4:
            os.rename(tmp_path / 'away', tmp_path / 'w')
        log.log_image('persons', [sheet], step)
        log.save()
    log.finalize('success')
    events = EventAccumulator(str(tmp_path / 'w/tensorboard'), size_guidance={'images': 0})
    events.Reload()
    found = events.Images('persons')
    assert {image.step for image in found} >= {0, 1, 5}
    assert not {image.step for image in found} & {3}
    assert (found[0].width, found[0].height) == (80, 60)
    assert found[0].encoded_image_string.startswith(b'\xff\xd8')  # a JPEG
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f'warning: cannot write to {tmp_path}/w/tensorboard: ')
