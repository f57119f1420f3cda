"""Augmentation: bounds, frequencies, and which half of a body is framed.

Frequencies are of fixed seeds; their bound is four standard deviations of a binomial count.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.datasets.transforms import RandomBBoxTransform, RandomFlip, RandomHalfBody
from psa_pose.datasets.transforms.augment import truncated_normal
from psa_pose.errors import ConfigError
from psa_pose.registry import TRANSFORMS
from psa_pose.structures import COCO_KEYPOINTS

DRAWS = 2000
LOWER = COCO_KEYPOINTS.lower_body
NAMES = COCO_KEYPOINTS.names


def person(seed=0, visible=None):
    keypoints = np.random.default_rng(99).uniform(0, 50, (17, 2)) + np.array([40, 20])
    keypoints[LOWER] += [0, 60]
    return {
        'rng': np.random.default_rng(seed),
        'img_size': (200, 100),
        'center': np.array([65.0, 70.0]),
        'scale': np.array([60.0, 130.0]),
        'keypoints': keypoints,
        'visible': np.ones(17, np.float32) if visible is None else np.asarray(visible, np.float32),
        'flip_indices': np.array(COCO_KEYPOINTS.flip_indices),
        'lower_body': LOWER,
    }


def draws(transform):
    """Many persons, one generator after the other."""
    return [transform(person(seed)) for seed in range(DRAWS)]


def assert_frequency(count, probability, of=DRAWS):
    bound = 4 * math.sqrt(of * probability * (1 - probability))
    assert abs(count - of * probability) <= bound, (count / of, probability)


def only(names):
    return np.array([name in names for name in NAMES])


class TestFlip:
    @pytest.mark.parametrize('prob', [0, 0.3, 0.5, 1])
    def test_as_often_as_it_says(self, prob):
        assert_frequency(sum(r.get('flip', False) for r in draws(RandomFlip(prob))), prob)

    def test_left_and_right_change_places_and_the_box_is_mirrored(self):
        before, after = person(), RandomFlip(1)(person())
        for name, point in zip(NAMES, after['keypoints'], strict=True):
            other = name.replace('left', '*').replace('right', 'left').replace('*', 'right')
            assert point.tolist() == before['keypoints'][NAMES.index(other)].tolist()
        assert after['center'].tolist() == [200 - 1 - 65, 70]
        assert after['scale'].tolist() == before['scale'].tolist()

    def test_unflipped_nothing_changes(self):
        before, after = person(), RandomFlip(0)(person())
        assert 'flip' not in after
        np.testing.assert_array_equal(after['keypoints'], before['keypoints'])


class TestBox:
    def test_bounds(self):
        transform = RandomBBoxTransform(0.2, 1.0, (0.6, 1.8), 1.0, 50.0, 1.0)
        results = draws(transform)
        shift = np.array([r['center'] - person()['center'] for r in results]) / person()['scale']
        scale = np.array([r['scale'] / person()['scale'] for r in results])
        rotation = np.array([r['rotation'] for r in results])
        np.testing.assert_allclose(scale[:, 0], scale[:, 1], rtol=1e-15)
        for values, low, high in [(shift, -0.2, 0.2), (scale, 0.6, 1.8), (rotation, -50, 50)]:
            assert low <= values.min() < low + 0.01 * (high - low)  # bounds are come near to
            assert high >= values.max() > high - 0.01 * (high - low)

    def test_the_four_amounts_are_independent(self):
        transform = RandomBBoxTransform(0.2, 1.0, (0.6, 1.8), 1.0, 50.0, 1.0)
        rows = [(*r['center'], r['scale'][0], r['rotation']) for r in draws(transform)]
        off_diagonal = np.corrcoef(np.array(rows).T)[~np.eye(4, dtype=bool)]
        assert np.abs(off_diagonal).max() < 4 / math.sqrt(DRAWS)

    def test_as_often_as_it_says(self):
        results = draws(RandomBBoxTransform(shift_prob=0.3, scale_prob=0.8, rotate_prob=0.6))
        assert_frequency(sum((r['center'] != [65, 70]).any() for r in results), 0.3)
        assert_frequency(sum((r['scale'] != [60, 130]).any() for r in results), 0.8)
        assert_frequency(sum('rotation' in r for r in results), 0.6)

    def test_probability_zero_changes_nothing(self):
        for r in draws(RandomBBoxTransform(shift_prob=0, scale_prob=0, rotate_prob=0))[:50]:
            assert r['center'].tolist() == [65, 70]
            assert r['scale'].tolist() == [60, 130]
            assert 'rotation' not in r

    def test_truncated_normal_numbers(self):
        values = truncated_normal(np.random.default_rng(0), 40_000)
        assert np.abs(values).max() <= 1
        inside = math.erf(1 / math.sqrt(2))
        variance = 1 - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) / inside
        assert values.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / 40_000))
        # the standard error of a variance is below variance * sqrt(2 / n) for so flat a shape
        assert values.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / 40_000))


class TestHalfBody:
    def half_of(self, results):
        """'upper', 'lower', 'other' or None by the box, spelled out."""
        for name, half in [('upper', ~LOWER), ('lower', LOWER)]:
            points = results['keypoints'][half & (results['visible'] > 0)]
            if not len(points):
                continue
            middle, extent = points.mean(0), points.max(0) - points.min(0)
            if np.allclose(results['center'], middle) and np.allclose(
                results['scale'], extent * 1.5
            ):
                return name
        return None if results['scale'].tolist() == [60, 130] else 'other'

    def test_as_often_as_it_says(self):
        halves = [
            self.half_of(r) for r in draws(RandomHalfBody(prob=0.3, upper_prioritized_prob=0.7))
        ]
        assert set(halves) == {'upper', 'lower', None}
        assert_frequency(halves.count('upper'), 0.3 * 0.7)
        assert_frequency(halves.count('lower'), 0.3 * 0.3)

    def test_the_half_with_too_few_keypoints_is_never_framed(self):
        few_low = ~LOWER | only(['left_hip', 'right_hip'])
        few_up = LOWER | only(['nose'])
        for visible, expected in [(few_low, 'upper'), (few_up, 'lower')]:
            for seed in range(30):
                transform = RandomHalfBody(min_total_keypoints=5, prob=1)
                assert self.half_of(transform(person(seed, visible))) == expected

    @pytest.mark.parametrize(
        'visible',
        [
            np.arange(17) < 8,  # fewer than nine
            np.zeros(17, bool),
            only(['nose', 'left_hip', 'right_hip']),
        ],
    )
    def test_persons_with_few_keypoints_stay_whole(self, visible):
        for seed in range(30):
            assert self.half_of(RandomHalfBody(prob=1)(person(seed, visible))) is None

    def test_keypoints_on_one_line_frame_nothing(self):
        results = person()
        results['keypoints'][:, 0] = 40
        assert self.half_of(RandomHalfBody(prob=1)(results)) is None

    @given(st.lists(st.booleans(), min_size=17, max_size=17), st.integers(0, 1000))
    def test_a_half_or_the_whole_and_nothing_else(self, visible, seed):
        results = RandomHalfBody(min_total_keypoints=2, prob=1)(person(seed, visible))
        assert self.half_of(results) in ('upper', 'lower', None)

    @pytest.mark.parametrize('seed', range(6))
    def test_half_body_and_flip_may_change_places(self, seed):
        first = RandomHalfBody(prob=1)(RandomFlip(1)(person(seed)))
        second = person(seed)
        second['rng'].random()  # the number that the other order's flip took
        second = RandomFlip(1)(RandomHalfBody(prob=1)(second))
        np.testing.assert_allclose(first['center'], second['center'])
        np.testing.assert_allclose(first['scale'], second['scale'])


class TestArguments:
    @pytest.mark.parametrize(
        ('cfg', 'name'),
        [
            ({'type': 'RandomFlip', 'prob': 1.5}, 'prob'),
            ({'type': 'RandomHalfBody', 'prob': -0.1}, 'prob'),
            ({'type': 'RandomHalfBody', 'upper_prioritized_prob': 2}, 'upper_prioritized_prob'),
            ({'type': 'RandomBBoxTransform', 'shift_prob': 2}, 'shift_prob'),
            ({'type': 'RandomBBoxTransform', 'scale_prob': 2}, 'scale_prob'),
            ({'type': 'RandomBBoxTransform', 'rotate_prob': 2}, 'rotate_prob'),
            ({'type': 'RandomBBoxTransform', 'scale_factor': (1.5, 0.5)}, 'scale_factor'),
            ({'type': 'RandomBBoxTransform', 'scale_factor': (0, 1)}, 'scale_factor'),
        ],
    )
    def test_impossible_values_are_named(self, cfg, name):
        with pytest.raises(ConfigError, match=rf'^pipeline \(Random.*{name} must'):
            TRANSFORMS.build(cfg, at='pipeline')
