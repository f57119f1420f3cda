"""Intervals, and how often a verdict is wrong, by simulation."""

import numpy as np
import pytest
from scipy import stats

from psa_pose.ablation.resampling import Resampler
from psa_pose.ablation.statistics import Difference, difference, resampled, sentence, verdict

IMAGES, STUDIES = 80, 250


def study(rng, seeds, gain, between_images, within=0.5):
    """A difference of two arms with noise of seeds (1), of images, and of both together."""
    by_seed = rng.normal(0, 1, (seeds, 1))
    by_image = rng.normal(0, between_images * np.sqrt(IMAGES), (1, IMAGES))
    both = rng.normal(0, within * np.sqrt(IMAGES), (seeds, IMAGES))
    gains = gain + by_seed + by_image + both
    weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), 300) / IMAGES
    values = {s: float(gains[s].mean()) for s in range(seeds)}
    draws = {s: weights @ gains[s] for s in range(seeds)}
    return difference(values, dict.fromkeys(range(seeds), 0.0), draws)


def share_clear(seeds, gain, between_images):
    rng = np.random.default_rng(seeds)
    return np.mean([study(rng, seeds, gain, between_images).clear for _ in range(STUDIES)])


class TestVerdicts:
    @pytest.mark.parametrize('between_images', [0, 1, 2])
    @pytest.mark.parametrize('seeds', [2, 3, 5])
    def test_without_a_difference_few_are_clear(self, seeds, between_images):
        # 5 of 100, and what 250 studies may show of them
        assert share_clear(seeds, 0, between_images) < 0.09

    @pytest.mark.parametrize(('seeds', 'least'), [(3, 0.7), (5, 0.9)])
    def test_a_large_difference_is_found(self, seeds, least):
        assert share_clear(seeds, 4, 0.5) > least

    def test_more_seeds_find_smaller_ones(self):
        found = [share_clear(seeds, 2, 0.3) for seeds in (2, 3, 5, 10)]
        assert found == sorted(found)
        assert found[0] < 0.3
        assert found[-1] > 0.9

    def test_neither_interval_is_enough_alone(self):
        rng = np.random.default_rng(0)
        many = [study(rng, 3, 0, 2) for _ in range(STUDIES)]
        seeds_alone = np.mean([d.seed_interval[0] * d.seed_interval[1] > 0 for d in many])
        few = [study(rng, 3, 0, 0, within=0.1) for _ in range(STUDIES)]
        images_alone = np.mean([d.interval[0] * d.interval[1] > 0 for d in few])
        assert seeds_alone > 0.15
        assert images_alone > 0.1


class TestDifference:
    def test_interval_of_the_seeds_is_students(self):
        found = difference({0: 0.7, 1: 0.72, 2: 0.71}, {0: 0.69, 1: 0.7, 2: 0.71})
        gains = [0.01, 0.02, 0.0]
        expected = stats.t.interval(0.95, 2, np.mean(gains), stats.sem(gains))
        assert found.seed_interval == pytest.approx(expected)
        assert found.mean == pytest.approx(0.01)
        assert found.interval is None

    def test_only_seeds_that_both_have_are_compared(self):
        found = difference({0: 1.0, 2: 1.0, 3: 9.0}, {0: 0.5, 1: -9.0, 2: 0.5})
        assert (found.mean, found.seeds) == (0.5, 2)

    def test_one_seed_is_never_clear(self):
        found = difference({0: 0.9}, {0: 0.1}, {0: np.full(100, 0.8)})
        assert found.seed_interval is None
        assert not found.clear
        assert 'one seed' in sentence(('psa', 'none'), 'AP', found)

    def test_equal_arms_are_within_noise(self):
        found = difference({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}, {0: np.zeros(9), 1: np.zeros(9)})
        assert verdict(found) == 'within noise'

    def test_the_same_images_are_drawn_for_every_cell(self):
        ids = np.arange(30)
        values = np.random.default_rng(0).normal(size=30)
        one = resampled(Resampler(ids, lambda weights: weights @ values))
        other = resampled(Resampler(ids, lambda weights: weights @ (values + 1)))
        assert other - one == pytest.approx(np.full(len(one), 30.0))
        assert one.std() > 1


class TestWords:
    def test_less_may_be_better(self):
        found = Difference(-2.0, 3, (-3.0, -1.0), (-2.5, -1.5))
        assert (verdict(found), verdict(found, less_is_better=True)) == ('worse', 'better')
        assert 'a: EPE -2.0000 against b, better (' in sentence(('a', 'b'), 'EPE', found, True)
        found = Difference(found.mean, found.seeds, None, found.seed_interval)
        assert verdict(found) == 'worse by seeds alone'

    def test_noise_is_said_plainly(self):
        found = Difference(0.01, 3, (0.002, 0.02), (-0.01, 0.03))
        assert 'within noise (3 seeds' in sentence(('a', 'b'), 'AP', found)
