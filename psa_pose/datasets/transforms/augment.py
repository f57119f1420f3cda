"""The field's training augmentation (Sun et al. 2019, MMPose's defaults): flip, half body, box.

Random numbers come from `results['rng']`, a generator of the sample's own, so that a sample is the
same whichever worker makes it and whenever training was interrupted. Nothing here touches pixels.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from psa_pose.errors import ConfigError
from psa_pose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror the person: `left_x` and `right_x` change places, `TopdownAffine` does the rest."""

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = _probability('prob', prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if _rng(results, self).random() >= self.prob:
            return results
        order = results['flip_indices']
        results['flip'] = True
        results['keypoints'] = results['keypoints'][order]
        results['visible'] = results['visible'][order]
        x, y = results['center']
        results['center'] = np.array([results['img_size'][0] - 1 - x, y])
        # Image pixels stay unmirrored: the affine mirrors image and keypoints together.
        return results


@TRANSFORMS.register_module()
class RandomHalfBody(BaseTransform):
    """Now and then frame only the upper or only the lower body (Wang et al. 2018).

    Args:
        min_total_keypoints: persons with fewer labelled keypoints stay whole.
        min_upper_keypoints: an upper body with fewer is not framed.
        min_lower_keypoints: a lower body with fewer is not framed.
        padding: what the half's box is larger than its keypoints' extent, around their mean.
        prob: of framing half a body.
        upper_prioritized_prob: of the upper half, where both would do.
    """

    def __init__(
        self,
        min_total_keypoints: int = 9,
        min_upper_keypoints: int = 2,
        min_lower_keypoints: int = 3,
        padding: float = 1.5,
        prob: float = 0.3,
        upper_prioritized_prob: float = 0.7,
    ) -> None:
        self.min_total_keypoints = min_total_keypoints
        self.min_upper_keypoints = min_upper_keypoints
        self.min_lower_keypoints = min_lower_keypoints
        self.padding = padding
        self.prob = _probability('prob', prob)
        self.upper_prob = _probability('upper_prioritized_prob', upper_prioritized_prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        half = self._choose_half(results)
        if half is None:
            return results
        points = results['keypoints'][half]
        size = np.ptp(points, axis=0) * self.padding
        if size.min() <= 0:  # keypoints on one line frame nothing
            return results
        center = points.mean(0)  # nearer to where there are many of them, as the face
        if results.get('flip'):
            center[0] = results['img_size'][0] - 1 - center[0]
        results['center'], results['scale'] = center, size
        return results

    def _choose_half(self, results: dict[str, Any]) -> np.ndarray | None:
        """(K,) bool, the keypoints to frame, or None for the whole person."""
        rng = _rng(results, self)
        visible, lower = results['visible'] > 0, results['lower_body']
        if rng.random() >= self.prob or visible.sum() < self.min_total_keypoints:
            return None
        upper, lower = visible & ~lower, visible & lower
        upper_fits = upper.sum() >= self.min_upper_keypoints
        lower_fits = lower.sum() >= self.min_lower_keypoints
        if upper_fits and lower_fits:
            return upper if rng.random() < self.upper_prob else lower
        if upper_fits:
            return upper
        return lower if lower_fits else None


@TRANSFORMS.register_module()
class RandomBBoxTransform(BaseTransform):
    """Shift, scale and rotate the box by truncated normal amounts.

    Args:
        shift_factor: largest shift, in box sides.
        shift_prob: of a shift.
        scale_factor: smallest and largest magnification of the box.
        scale_prob: of a magnification.
        rotate_factor: largest rotation, in degrees.
        rotate_prob: of a rotation.
    """

    def __init__(
        self,
        shift_factor: float = 0.16,
        shift_prob: float = 0.3,
        scale_factor: tuple[float, float] = (0.5, 1.5),
        scale_prob: float = 1.0,
        rotate_factor: float = 80.0,
        rotate_prob: float = 0.6,
    ) -> None:
        low, high = scale_factor
        if not 0 < low <= high:
            raise ValueError(f'scale_factor must be 0 < low <= high, got {scale_factor}')
        self.shift_factor, self.shift_prob = shift_factor, _probability('shift_prob', shift_prob)
        self.scale_mid, self.scale_half = (low + high) / 2, (high - low) / 2
        self.scale_prob = _probability('scale_prob', scale_prob)
        self.rotate_factor = rotate_factor
        self.rotate_prob = _probability('rotate_prob', rotate_prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = _rng(results, self)
        amount = truncated_normal(rng, 4)
        shifted, scaled, rotated = rng.random(3) < (
            self.shift_prob,
            self.scale_prob,
            self.rotate_prob,
        )
        if shifted:
            offset = amount[:2] * self.shift_factor * results['scale']
            results['center'] = results['center'] + offset
        if scaled:
            results['scale'] = results['scale'] * (self.scale_mid + self.scale_half * amount[2])
        if rotated:
            results['rotation'] = self.rotate_factor * amount[3]
        return results


def truncated_normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """`size` standard normal numbers, drawn again until each lies in [-1, 1]."""
    values = rng.standard_normal(size)
    while (outside := np.abs(values) > 1).any():
        values[outside] = rng.standard_normal(outside.sum())
    return values


def _rng(results: dict[str, Any], transform: BaseTransform) -> np.random.Generator:
    if 'rng' not in results:
        name = type(transform).__name__
        raise ConfigError(f"{name} is random, and has no place in an evaluation's pipeline")
    return results['rng']


def _probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must lie in [0, 1], got {value}')
    return value
