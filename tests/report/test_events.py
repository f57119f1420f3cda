"""The reader of event files, beside TensorBoard's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from psa_pose.report.events import read_curves


def test_all_scalars_as_tensorboard_reads_them(trained_run: Path) -> None:
    folder = trained_run / 'tensorboard'
    theirs = EventAccumulator(str(folder), size_guidance={'scalars': 0}).Reload()
    curves = read_curves(folder)
    assert set(curves) == set(theirs.Tags()['scalars']) >= {'loss', 'lr', 'AP'}
    for tag, curve in curves.items():
        # A tag that is logged twice in a step counts once, the later one.
        expected = {event.step + 1: event.value for event in theirs.Scalars(tag)}
        assert curve.steps.tolist() == list(expected)
        np.testing.assert_array_equal(curve.values, list(expected.values()))
    assert curves['loss'].steps.tolist() == list(range(1, 13))


def write(folder: Path, values: dict[int, float], purge: int | None = None, at: int = 0) -> None:
    with SummaryWriter(folder, purge_step=purge) as writer:
        for step, value in values.items():
            writer.add_scalar('loss', value, step)
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_ctime_ns)
    os.rename(newest, folder / f'events.out.tfevents.{1000 + at}.host.1.0')  # within one second


def test_a_resumed_run_replaces_what_came_after_its_start(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(range(10), 1.0))
    write(tmp_path, dict.fromkeys(range(4, 7), 2.0), purge=4, at=1)
    curve = read_curves(tmp_path)['loss']
    assert curve.steps.tolist() == list(range(1, 8))
    assert curve.values.tolist() == [1.0] * 4 + [2.0] * 3


@pytest.mark.parametrize('cut', [1, 5, 20])
def test_a_file_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    write(tmp_path, dict.fromkeys(range(10), 1.0))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    assert read_curves(tmp_path)['loss'].steps.tolist() == list(range(1, 10))


def test_pictures_and_values_that_are_not_finite(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_image('panel', np.random.default_rng(0).random((3, 300, 300)), 0)
        for step, value in enumerate([1.0, float('nan'), 2.0]):
            writer.add_scalar('loss', value, step)
    curves = read_curves(tmp_path)
    assert set(curves) == {'loss'}
    assert curves['loss'].steps.tolist() == [1, 3] and curves['loss'].lost == 1


def test_no_folder(tmp_path: Path) -> None:
    assert read_curves(tmp_path / 'none') == {}
