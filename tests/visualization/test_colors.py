"""Colours stay apart for colour-blind eyes, simulated as by Machado et al. (IEEE TVCG 2009)."""

import itertools

import numpy as np
import pytest

from psa_pose.visualization.overlay import colored
from psa_pose.visualization.skeleton import LEFT, MIDDLE, RIGHT

# Their matrices for severity 1, of linear RGB.
SEEN = {
    'all colours': np.eye(3),
    'protanopia': [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    'deuteranopia': [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    'tritanopia': [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(  # sRGB, D65, divided by the white point
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / [[0.95047], [1.0], [1.08883]]


def lab(rgb, eye):
    """CIE L*a*b* of 8-bit sRGB (..., 3) as an eye sees it."""
    share = np.asarray(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = (linear @ np.asarray(SEEN[eye]).T).clip(0, 1) @ TO_XYZ.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def difference(one, other, eye):
    """Delta E (1976); two that differ by 2.3 can just be told apart."""
    return np.linalg.norm(lab(one, eye) - lab(other, eye))


def test_the_measure_itself():
    assert lab((255, 255, 255), 'all colours') == pytest.approx((100, 0, 0), abs=0.02)
    assert difference((255, 0, 0), (0, 255, 0), 'all colours') == pytest.approx(170.6, abs=0.1)
    # Red and green of one brightness: what deuteranopes confuse.
    assert difference((190, 90, 0), (120, 120, 0), 'all colours') > 45
    assert difference((190, 90, 0), (120, 120, 0), 'deuteranopia') < 10


@pytest.mark.parametrize('eye', SEEN)
def test_left_right_and_middle_stay_apart(eye):
    assert difference(LEFT, RIGHT, eye) > 75
    for side in (LEFT, RIGHT):
        assert difference(side, MIDDLE, eye) > 40


def test_in_grey_too():
    light = [lab(color, 'all colours')[0] for color in (LEFT, RIGHT, MIDDLE)]
    assert min(abs(a - b) for a, b in itertools.combinations(light, 2)) > 14


@pytest.mark.parametrize('eye', SEEN)
def test_maps_get_steadily_lighter_for_every_eye(eye):
    light = lab(colored(np.linspace(0, 1, 32)[None])[0], eye)[:, 0]
    steps = np.diff(light)
    assert (steps > 0.5).all()
    assert steps.max() < 4 * steps.mean()
    assert light[-1] - light[0] > 60
