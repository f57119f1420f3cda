"""Plots of a diagnosis: written, of the right size, and showing what was found."""

import cv2
import numpy as np
import pytest

from psa_pose.evaluation.diagnosis import diagnose
from psa_pose.visualization.diagnosis import COLORS, plot_diagnosis
from tests.corrupted import Predictions, crowd_file


def share(path, color):
    """The share of a picture's pixels that have a colour."""
    image = cv2.imread(str(path))[..., ::-1].astype(int)
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(image - rgb).max(-1) <= 2).mean()


@pytest.fixture
def predictions(tmp_path):
    return Predictions(crowd_file(tmp_path))


def test_each_kind_shows_in_its_colour_where_it_occurs_and_nowhere_else(predictions, tmp_path):
    predictions.swap(0.2)
    paths = plot_diagnosis(diagnose(predictions.truth, predictions.detections()), tmp_path)
    assert [path.name for path in paths] == ['keypoints.png', 'cured.png', 'groups.png']
    for path in paths:
        height, width = cv2.imread(str(path)).shape[:2]
        assert 400 < height < 3000
        assert 800 < width < 3000
        assert share(path, '#ffffff') > 0.3
        assert share(path, COLORS['swap']) > 0.01
    # The legend has a patch of every kind, the bars only of those that occur.
    for kind in ('inversion', 'miss', 'jitter'):
        assert share(paths[1], COLORS[kind]) < 0.002
        assert share(paths[0], COLORS[kind]) < 0.005


def test_perfect_predictions_can_be_drawn(predictions, tmp_path):
    for path in plot_diagnosis(diagnose(predictions.truth, predictions.detections()), tmp_path):
        assert path.stat().st_size > 5000


def test_no_display_and_no_global_state(predictions, tmp_path, monkeypatch):
    """Asking for the backend by name would choose one, and there may be none."""
    import matplotlib

    before = dict.copy(matplotlib.rcParams)
    plot_diagnosis(diagnose(predictions.truth, predictions.detections()), tmp_path)
    assert dict.copy(matplotlib.rcParams) == before


def test_colours_differ_in_brightness_or_hue():
    """Every two of the palette, also when red and green look alike (deuteranopia, Vienot 1999)."""
    simulate = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    seen = {
        name: simulate @ np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        for name, color in COLORS.items()
    }
    names = list(seen)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.linalg.norm(seen[one] - seen[other]) > 25, (one, other)
