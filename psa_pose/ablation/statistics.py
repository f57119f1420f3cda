"""Differences to a baseline, and how far they are from noise."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from psa_pose.ablation.resampling import Resampler

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A number of an arm less the baseline's, over the seeds that both have.

    Attributes:
        mean: over seeds.
        seeds: how many.
        interval: 95 %, bootstrap over images and seeds (percentiles); None where the number cannot
            be resampled.
        seed_interval: 95 %, Student's t over the seeds' differences; None with one seed.

    Neither is enough: three seeds drawn from three vary too little (17 of 100 bootstraps leave out
    a zero that is true, where all noise is between seeds), and the seeds share their images, of
    which Student knows nothing (31 of 100, where most noise is there). Both together are wrong in 2
    to 6 of 100, with 2 to 10 seeds: tests/ablation/test_statistics.py.
    """

    mean: float
    seeds: int
    interval: tuple[float, float] | None
    seed_interval: tuple[float, float] | None

    @property
    def clear(self) -> bool:
        """Whether both intervals, where there are both, leave out zero."""
        known = [pair for pair in (self.interval, self.seed_interval) if pair]
        same_side = {np.sign(low) for low, _ in known} | {np.sign(high) for _, high in known}
        return self.seed_interval is not None and same_side in ({1.0}, {-1.0})


def resampled(found: Resampler) -> np.ndarray:
    """(`RESAMPLES`,) of a number; the same images are drawn for every cell, for they are paired."""
    count = len(found.image_ids)
    rng = np.random.default_rng(0)
    return found.values(rng.multinomial(count, np.full(count, 1 / count), RESAMPLES))


def difference(
    arm: Mapping[int, float],
    baseline: Mapping[int, float],
    draws: Mapping[int, np.ndarray] | None = None,
) -> Difference:
    """Compare two arms seed by seed: the same seed had the same crops in the same order.

    Args:
        arm: the number by seed.
        baseline: likewise.
        draws: by seed, how much more the arm has than the baseline on resampled images; see
            `resampled`.
    """
    seeds = sorted(set(arm) & set(baseline))
    gains = np.array([arm[s] - baseline[s] for s in seeds])
    by_seed = None
    if len(seeds) > 1:
        error = gains.std(ddof=1) / np.sqrt(len(seeds))
        half = stats.t.ppf((1 + LEVEL) / 2, len(seeds) - 1) * error
        by_seed = float(gains.mean() - half), float(gains.mean() + half)
    interval = _bootstrap(np.stack([draws[s] for s in seeds])) if draws else None
    return Difference(float(gains.mean()), len(seeds), interval, by_seed)


def _bootstrap(gains: np.ndarray) -> tuple[float, float]:
    """Percentiles of (seeds, R) gains, with seeds drawn as well."""
    count, resamples = gains.shape
    drawn = np.random.default_rng(1).integers(count, size=(resamples, count))
    means = gains[drawn, np.arange(resamples)[:, None]].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def verdict(found: Difference, less_is_better: bool = False) -> str:
    """'better', 'worse', 'within noise' or 'one seed'; of seeds alone it says so."""
    if found.seed_interval is None:
        return 'one seed'
    if not found.clear:
        return 'within noise'
    word = 'worse' if (found.mean < 0) != less_is_better else 'better'
    return word if found.interval else f'{word} by seeds alone'


def sentence(
    names: tuple[str, str], metric: str, found: Difference, less_is_better: bool = False
) -> str:
    """The verdict in full; the names are the arm's and its baseline's."""
    number = f'{names[0]}: {metric} {found.mean:+.4f} against {names[1]}'
    result = verdict(found, less_is_better)
    if found.seed_interval is None:
        return f'{number} with one seed, which says nothing of the noise between seeds.'
    known = [f'{interval_text(found.interval)} over images and seeds'] if found.interval else []
    known.append(f'{interval_text(found.seed_interval)} over seeds alone')
    return f'{number}, {result} ({found.seeds} seeds; 95 %: {", ".join(known)}).'


def interval_text(interval: tuple[float, float]) -> str:
    """For people."""
    return f'{interval[0]:+.4f} to {interval[1]:+.4f}'
