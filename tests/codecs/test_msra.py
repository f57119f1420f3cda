"""The codec against Gaussians and the quarter shift written out in plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.codecs import MSRAHeatmap

SIZES = [  # input (width, height), heatmap (width, height): strides 1 to 8, uneven ones too
    ((192, 256), (48, 64)),
    ((96, 128), (24, 32)),
    ((64, 48), (32, 24)),
    ((40, 30), (40, 30)),
    ((100, 75), (33, 20)),
    ((64, 48), (8, 6)),
]
SIGMAS = [1.0, 1.5, 2.0, 3.0]


def heatmaps_spelled_out(codec, keypoints, visible):
    """(B, K, H, W) float64 and (B, K), one pixel at a time."""
    (in_w, in_h), (width, height) = codec.input_size, codec.heatmap_size
    radius = 3 * codec.sigma
    batch, count = visible.shape
    heatmaps, weights = np.zeros((batch, count, height, width)), np.zeros((batch, count))
    for b, k in itertools.product(range(batch), range(count)):
        mu_x = math.floor(keypoints[b, k, 0] / (in_w / width) + 0.5)
        mu_y = math.floor(keypoints[b, k, 1] / (in_h / height) + 0.5)
        for y, x in itertools.product(range(height), range(width)):
            if visible[b, k] and abs(x - mu_x) <= radius and abs(y - mu_y) <= radius:
                squared = (x - mu_x) ** 2 + (y - mu_y) ** 2
                heatmaps[b, k, y, x] = math.exp(-squared / (2 * codec.sigma**2))
                weights[b, k] = 1
    return heatmaps, weights


def sign(value):
    return (value > 0) - (value < 0)


def shift_beyond(peak, before, sigma):
    """0.5 where the Gaussian through two values has its centre half a pixel outside or more."""
    return 0.5 if before > 0 and sigma**2 * math.log(peak / before) - 0.5 > 0.5 else 0


def decoded_spelled_out(codec, heatmap):
    """x, y in crop pixels and the score of a heatmap (rows): argmax and MMPose's quarter shift."""
    height, width = len(heatmap), len(heatmap[0])
    score, x, y = max((heatmap[y][x], -x, -y) for y in range(height) for x in range(width))
    x, y = -x, -y
    dx = dy = 0
    if 1 < x < width - 1 and y > 0:
        dx = 0.25 * sign(heatmap[y][x + 1] - heatmap[y][x - 1])
    elif x == width - 1:
        dx = shift_beyond(score, heatmap[y][x - 1], codec.sigma)
    if 1 < y < height - 1 and x > 0:
        dy = 0.25 * sign(heatmap[y + 1][x] - heatmap[y - 1][x])
    elif y == height - 1:
        dy = shift_beyond(score, heatmap[y - 1][x], codec.sigma)
    (in_w, in_h) = codec.input_size
    return (x + dx) * in_w / width, (y + dy) * in_h / height, score


def sweep(length: int) -> np.ndarray:
    """Positions from 0 to length - 1, eight a pixel at either end and two between."""
    ends = np.arange(0, min(12, length - 1) + 0.01, 0.125)
    return np.unique([*ends, *np.arange(0, length - 0.9, 0.5), *(length - 1 - ends)])


class TestRoundTrip:
    @pytest.mark.parametrize('sigma', SIGMAS)
    @pytest.mark.parametrize(('input_size', 'heatmap_size'), SIZES)
    def test_within_half_a_heatmap_pixel_everywhere_in_the_crop(
        self, input_size, heatmap_size, sigma
    ):
        codec = MSRAHeatmap(input_size, heatmap_size, sigma)
        right, bottom = input_size[0] - 1, input_size[1] - 1
        points = [(x, y) for x in sweep(input_size[0]) for y in (0, bottom / 3, bottom)]
        points += [(x, y) for y in sweep(input_size[1]) for x in (0, right / 3, right)]
        keypoints = torch.tensor(points, dtype=torch.float64).unsqueeze(1)
        heatmaps, weights = codec.encode(keypoints, torch.ones(len(points), 1))
        decoded, _ = codec.decode(heatmaps)
        stride = torch.tensor(np.divide(input_size, heatmap_size))
        error = ((decoded - keypoints) / stride).abs().squeeze(1)
        worst = int(error.max(1).values.argmax())
        assert (weights == 1).all()
        assert error[worst].max() <= 0.5 + 1e-9, (points[worst], decoded[worst].tolist())

    @pytest.mark.parametrize('sigma', SIGMAS)
    def test_score_of_a_keypoint_on_a_heatmap_pixel_is_one(self, sigma):
        codec = MSRAHeatmap((192, 256), (48, 64), sigma)
        keypoints = torch.tensor([[[0.0, 0.0], [188.0, 252.0], [40.0, 80.0]]])
        decoded, scores = codec.decode(codec.encode(keypoints, torch.ones(1, 3))[0])
        assert (scores == 1).all()
        assert torch.equal(decoded, keypoints)


class TestEncode:
    @pytest.mark.parametrize('sigma', [*SIGMAS, 0.7, 1.9])
    @pytest.mark.parametrize(
        ('input_size', 'heatmap_size'), [((64, 48), (16, 12)), ((50, 30), (17, 14))]
    )
    def test_gaussians_and_weights_as_spelled_out(self, input_size, heatmap_size, sigma):
        codec = MSRAHeatmap(input_size, heatmap_size, sigma)
        rng = np.random.default_rng(0)
        reach = 3.5 * sigma * np.divide(input_size, heatmap_size)
        keypoints = rng.uniform(-reach, input_size + reach, (40, 3, 2))
        visible = (rng.random((40, 3)) < 0.8).astype(np.float64)
        heatmaps, weights = codec.encode(torch.tensor(keypoints), torch.tensor(visible))
        expected, expected_weights = heatmaps_spelled_out(codec, keypoints, visible)
        np.testing.assert_allclose(heatmaps, expected, atol=1e-6, rtol=0)
        np.testing.assert_array_equal(weights, expected_weights)
        assert 0 < (expected_weights < visible).mean() < 0.9  # some lie outside, some do not

    @pytest.mark.parametrize('sigma', [*SIGMAS, 0.3, 0.7, 1.9, 2.1])
    def test_weight_is_zero_exactly_where_the_heatmap_is(self, sigma):
        codec = MSRAHeatmap((24, 16), (24, 16), sigma)
        grid = itertools.product(range(-12, 24 + 12), range(-12, 16 + 12))
        keypoints = torch.tensor(list(grid), dtype=torch.float32).unsqueeze(1)
        heatmaps, weights = codec.encode(keypoints, torch.ones(len(keypoints), 1))
        empty = (heatmaps == 0).all(-1).all(-1)
        wrong = keypoints[empty != (weights == 0)]
        assert len(wrong) == 0, f'{len(wrong)} keypoints, the first at {wrong[0].tolist()}'

    def test_soft_weights_are_kept(self):
        codec = MSRAHeatmap((64, 48), (16, 12))
        heatmaps, weights = codec.encode(torch.full((1, 1, 2), 20.0), torch.tensor([[0.5]]))
        assert (weights.item(), heatmaps.max().item()) == (0.5, 1)


class TestDecode:
    @given(st.integers(0, 2**32 - 1), st.sampled_from([(6, 5), (12, 16), (3, 4)]))
    def test_random_heatmaps_as_the_field_decodes_them(self, seed, size):
        codec = MSRAHeatmap((size[0] * 4, size[1] * 3), size)
        rng = np.random.default_rng(seed)
        heatmaps = rng.uniform(-0.5, 1, (4, 3, size[1], size[0]))
        keypoints, scores = codec.decode(torch.tensor(heatmaps))
        for b, k in itertools.product(range(4), range(3)):
            x, y, score = decoded_spelled_out(codec, heatmaps[b, k].tolist())
            assert keypoints[b, k].tolist() == pytest.approx([x, y], abs=1e-12)
            assert scores[b, k] == score

    @pytest.mark.parametrize(
        'at', [(0, 0), (1, 1), (2, 2), (5, 0), (0, 5), (11, 7), (10, 6), (5, 7)]
    )
    def test_each_place_of_the_maximum_as_the_field_decodes_it(self, at):
        codec = MSRAHeatmap((48, 32), (12, 8))
        rng = np.random.default_rng(3)
        for _ in range(20):
            heatmap = rng.uniform(0, 1, (8, 12))
            heatmap[at[1], at[0]] = rng.uniform(1, 1.5)
            keypoints, _ = codec.decode(torch.tensor(heatmap)[None, None])
            x, y, _ = decoded_spelled_out(codec, heatmap.tolist())
            assert keypoints[0, 0].tolist() == pytest.approx([x, y], abs=1e-12)

    def test_the_shift_goes_towards_the_higher_neighbour(self):
        codec = MSRAHeatmap((40, 40), (10, 10))
        heatmap = torch.zeros(1, 1, 10, 10)
        heatmap[0, 0, 5, 4], heatmap[0, 0, 5, 3], heatmap[0, 0, 6, 4] = 1, 0.5, 0.5
        assert codec.decode(heatmap)[0].tolist() == [[[(4 - 0.25) * 4, (5 + 0.25) * 4]]]
