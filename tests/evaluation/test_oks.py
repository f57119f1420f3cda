"""OKS against the formula in a plain loop, and suppression by it."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.evaluation import oks as module
from psa_pose.evaluation.oks import oks, oks_nms, soft_oks_nms
from psa_pose.structures import COCO_KEYPOINTS

SIGMAS = COCO_KEYPOINTS.sigmas


def oks_spelled_out(one, other, area):
    """Mean over keypoints of exp(-d^2 / (2 s^2 k^2)), k = 2 sigma (cocodataset.org)."""
    total = 0
    for (x, y), (u, v), sigma in zip(one, other, SIGMAS, strict=True):
        total += math.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * area * (2 * sigma) ** 2))
    return total / len(SIGMAS)


def crowd(seed, count, spread=4.0):
    """Poses that are variations of a few."""
    rng = np.random.default_rng(seed)
    poses = rng.uniform(0, 100, (max(1, count // 2), 17, 2))
    poses = poses[rng.integers(0, len(poses), count)] + rng.normal(0, spread, (count, 1, 2))
    return poses, rng.random(count), rng.uniform(2000, 8000, count)


class TestOks:
    @given(st.integers(0, 10**6))
    def test_the_formula(self, seed):
        poses, _, areas = crowd(seed, 6)
        values = oks(poses[0], poses[1:], areas[0], areas[1:], SIGMAS)
        expected = [
            oks_spelled_out(poses[0], poses[i], (areas[0] + areas[i]) / 2) for i in range(1, 6)
        ]
        np.testing.assert_allclose(values, expected, rtol=1e-12)

    def test_of_a_pose_with_itself_is_one(self):
        poses, _, areas = crowd(0, 3)
        assert oks(poses[1], poses[1:2], areas[1], areas[1:2], SIGMAS).tolist() == [1]

    def test_with_nobody(self):
        poses, _, areas = crowd(0, 2)
        assert oks(poses[0], poses[:0], areas[0], areas[:0], SIGMAS).shape == (0,)

    def test_one_keypoint_off_by_its_own_scale(self):
        pose = np.zeros((17, 2))
        other = pose.copy()
        other[5, 0] = 2 * SIGMAS[5] * 50  # k times sqrt(area)
        value = oks(pose, other[None], 2500.0, np.array([2500.0]), SIGMAS)[0]
        assert value == pytest.approx((16 + math.exp(-0.5)) / 17, rel=1e-12)


class TestSuppression:
    @given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.5, 0.7, 0.9]))
    def test_greedy_as_spelled_out(self, seed, count, threshold):
        poses, scores, areas = crowd(seed, count)
        kept = []
        for i in sorted(range(count), key=lambda i: -scores[i]):
            alike = [
                oks_spelled_out(poses[i], poses[j], (areas[i] + areas[j]) / 2) > threshold
                for j in kept
            ]
            if not any(alike):
                kept.append(i)
        assert oks_nms(poses, scores, areas, SIGMAS, threshold).tolist() == kept

    def test_a_double_is_dropped_and_the_better_one_stays(self):
        pose = np.random.default_rng(0).uniform(0, 100, (17, 2))
        poses = np.stack([pose, pose + 200, pose + 0.1])
        areas = np.full(3, 5000.0)
        assert oks_nms(poses, np.array([0.3, 0.2, 0.8]), areas, SIGMAS).tolist() == [2, 1]

    def test_equal_scores_keep_their_order(self):
        poses = np.random.default_rng(0).uniform(0, 1000, (5, 17, 2))
        assert oks_nms(poses, np.ones(5), np.full(5, 100.0), SIGMAS).tolist() == [0, 1, 2, 3, 4]

    def test_threshold_one_keeps_all(self):
        poses = np.zeros((4, 17, 2))
        assert len(oks_nms(poses, np.ones(4), np.full(4, 100.0), SIGMAS, 1.0)) == 4

    def test_nobody(self):
        kept = oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), SIGMAS)
        assert (kept.shape, kept.dtype) == ((0,), np.int64)

    @pytest.mark.parametrize('nms', [oks_nms, soft_oks_nms])
    def test_images_are_apart(self, nms):
        crowds = [crowd(seed, count) for seed, count in enumerate((5, 1, 9))]
        poses, scores, areas = (np.concatenate(column) for column in zip(*crowds, strict=True))
        images = np.repeat([2**40, 3, 7], [5, 1, 9])
        shuffled = np.random.default_rng(0).permutation(15)
        kept = nms(
            poses[shuffled], scores[shuffled], areas[shuffled], SIGMAS, 0.7, images[shuffled]
        )
        alone = [
            members[nms(poses[members], scores[members], areas[members], SIGMAS, 0.7)]
            for members in (np.flatnonzero(images == image) for image in (3, 7, 2**40))
        ]
        assert shuffled[kept].tolist() == np.concatenate(alone).tolist()


class TestSoftSuppression:
    @given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.3, 0.9]))
    def test_as_spelled_out(self, seed, count, threshold):
        poses, scores, areas = crowd(seed, count)
        left, lowered, chosen = set(range(count)), scores.copy(), []
        while left and len(chosen) < 5:
            best = max(left, key=lambda i: lowered[i])
            chosen.append(best)
            left.remove(best)
            for i in left:
                alike = oks_spelled_out(poses[best], poses[i], (areas[best] + areas[i]) / 2)
                lowered[i] *= math.exp(-(alike**2) / threshold)
        found = soft_oks_nms(poses, scores, areas, SIGMAS, threshold, max_dets=5)
        assert found.tolist() == chosen

    def test_a_double_comes_last_and_scores_stay(self):
        pose = np.random.default_rng(0).uniform(0, 100, (17, 2))
        poses = np.stack([pose, pose + 200, pose + 0.1])
        scores = np.array([0.7, 0.5, 0.8])
        assert soft_oks_nms(poses, scores, np.full(3, 5000.0), SIGMAS).tolist() == [2, 1, 0]
        assert scores.tolist() == [0.7, 0.5, 0.8]

    def test_nobody(self):
        assert len(soft_oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), SIGMAS)) == 0


@pytest.mark.parametrize('name', ['oks_nms', 'soft_oks_nms'])
@pytest.mark.parametrize('threshold', [0.3, 0.9])
def test_as_mmpose_keeps_them(name, threshold):
    """Numbers by reference/make_mmpose_nms.py, run where MMPose 1.3 is installed."""
    stored = np.load(Path(__file__).parent / 'reference' / 'mmpose_nms.npz')
    inputs = stored['keypoints'], stored['score'], stored['area']
    kept = getattr(module, name)(*inputs, SIGMAS, threshold, stored['image'])
    assert kept.tolist() == stored[f'{name} {threshold}'].tolist()
