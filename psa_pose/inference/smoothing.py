"""Keypoints of a video smoothed by the One-Euro filter.

Casiez, Roussel, Vogel (CHI 2012), https://gery.casiez.net/1euro/: a low-pass filter whose cutoff
rises with speed, so that what stands still does not tremble and what moves does not lag.
"""

from dataclasses import dataclass
from math import pi

import numpy as np

from psa_pose.errors import ConfigError


@dataclass(frozen=True)
class Smoothing:
    """How to smooth.

    Attributes:
        min_cutoff: Hz, of a keypoint at rest; less trembles less.
        beta: Hz more for each person's size that a keypoint moves in a second; more lags less. A
            person's size is the square root of its box' area, so that distance does not matter.
        d_cutoff: Hz, of the speed itself.
        min_oks: similarity (OKS) from which two poses may be one person's; without it, the overlap
            (IoU) of their boxes is asked.
        min_iou: overlap of boxes, likewise.
        max_gap: seconds for which a person who is not found is waited for.
    """

    min_cutoff: float = 1.0
    beta: float = 10.0
    d_cutoff: float = 1.0
    min_oks: float = 0.3
    min_iou: float = 0.3
    max_gap: float = 0.5

    def __post_init__(self) -> None:
        for name in ('min_cutoff', 'd_cutoff'):
            if not getattr(self, name) > 0:
                raise ConfigError(f'Smoothing: {name} must be above 0, got {getattr(self, name)}')
        for name in ('beta', 'max_gap', 'min_oks', 'min_iou'):
            if not getattr(self, name) >= 0:
                raise ConfigError(f'Smoothing: {name} must be from 0 on, got {getattr(self, name)}')


class OneEuro:
    """The filter, of K points at once; a point's speed is that of its plane, not of each axis.

    Args:
        points: (K, 2), the first.
        time: of it, in seconds.
        options: `min_cutoff`, `beta`, `d_cutoff`.

    Attributes:
        points: (K, 2), filtered.
        speed: (K, 2), filtered, in pixels a second.
    """

    def __init__(self, points: np.ndarray, time: float, options: Smoothing) -> None:
        self.points = np.asarray(points, np.float64)
        self.speed = np.zeros_like(self.points)
        self.time = time
        self.options = options

    def __call__(self, points: np.ndarray, time: float, size: float) -> np.ndarray:
        """The next.

        Args:
            points: (K, 2).
            time: in seconds, after the one before.
            size: of the person in pixels.

        Returns:
            (K, 2), filtered.
        """
        step = time - self.time
        if step <= 0:
            return self.points
        options = self.options
        speed = (points - self.points) / step
        self.speed += _share(options.d_cutoff, step) * (speed - self.speed)
        relative = np.linalg.norm(self.speed, axis=1, keepdims=True) / size
        share = _share(options.min_cutoff + options.beta * relative, step)
        self.points = self.points + share * (points - self.points)
        self.time = time
        return self.points


def _share(cutoff: float | np.ndarray, step: float) -> float | np.ndarray:
    """Of the new value in a low-pass filter's next; the paper's alpha."""
    tau = 1 / (2 * pi * cutoff)
    return 1 / (1 + tau / step)
