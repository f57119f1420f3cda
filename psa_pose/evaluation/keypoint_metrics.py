"""PCK, AUC, EPE and NME: distances of keypoints in image pixels, person by person.

Registered under MMPose's names, and equal to its numbers where it has them. In all equations p is a
predicted and g a labelled keypoint; unlabelled keypoints are left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from psa_pose.errors import nearest
from psa_pose.evaluation.distances import (
    SIZES,
    KeypointMetric,
    label_distance,
    mean,
    mean_pck,
    normalised,
    person_sizes,
)
from psa_pose.registry import METRICS

if TYPE_CHECKING:
    from psa_pose.datasets import TopdownDataset

LESS_IS_BETTER = ('EPE', 'NME')
"""Names of numbers that are errors."""
_PCK_NAMES = {'bbox': 'PCK', 'head': 'PCKh', 'torso': 'tPCK'}


@METRICS.register_module()
class PCKAccuracy(KeypointMetric):
    """Percentage (here from 0 to 1) of correct keypoints (Yang and Ramanan 2013).

    PCK_k = share of persons with |p_k - g_k| < thr * s among those with keypoint k; the number is
    the mean over keypoints. s is by `norm_item`:

    - 'bbox' gives PCK: the larger side of the person's box.
    - 'head' gives PCKh: the dataset's own head size (MPII; the official PCKh is `MpiiPCKAccuracy`).
    - 'torso' gives tPCK: from left shoulder to right hip (Sapp and Taskar 2013). Persons without
      both are left out and counted. MMPose takes keypoints 4 and 5, JHMDB's names for these two.

    A person that was not predicted counts as wrong.

    Args:
        dataset: whose persons are predicted.
        thr: share of s.
        norm_item: one of these or several.

    Raises:
        ValueError: another `norm_item`, or the dataset has no head sizes or no such keypoints.
    """

    def __init__(
        self, dataset: 'TopdownDataset', thr: float = 0.2, norm_item: str | Sequence[str] = 'bbox'
    ) -> None:
        super().__init__(dataset)
        self.thr = _positive(thr, 'thr')
        self.norm_items = (norm_item,) if isinstance(norm_item, str) else tuple(norm_item)
        self.sizes = {item: person_sizes(dataset, item) for item in self.norm_items}
        self.names = tuple(_PCK_NAMES[item] for item in self.norm_items)

    @property
    def what(self) -> str:
        """Names the numbers, for the title."""
        parts = []
        for item, name in zip(self.norm_items, self.names, strict=True):
            without = int((~(self.sizes[item] > 0)).sum())
            left_out = f' ({without} persons without it left out)' if without else ''
            parts.append(f'{name}@{self.thr:g} of {SIZES[item]}{left_out}')
        return ', '.join(parts)

    def compute(self) -> dict[str, Any]:
        """PCK, PCKh or tPCK in [0, 1], -1 where nobody can be measured, and `boxes`."""
        distances = self.distances()
        numbers = {
            name: mean_pck(*normalised(distances, self.labelled, self.sizes[item]), self.thr)
            for item, name in zip(self.norm_items, self.names, strict=True)
        }
        return {**numbers, 'boxes': self.boxes}


@METRICS.register_module()
class AUC(KeypointMetric):
    """Area under the curve of PCK over its threshold (Zimmermann and Brox 2017).

    AUC = 1/T * sum over i = 0..T-1 of PCK(i / T), where PCK(t) is the mean over keypoints of the
    share with |p - g| < t * norm_factor. As in MMPose the sum starts at t = 0, where PCK is 0.

    Args:
        dataset: whose persons are predicted.
        norm_factor: in pixels.
        num_thrs: T.
    """

    names = ('AUC',)

    def __init__(
        self, dataset: 'TopdownDataset', norm_factor: float = 30, num_thrs: int = 20
    ) -> None:
        super().__init__(dataset)
        self.norm_factor = _positive(norm_factor, 'norm_factor')
        self.num_thrs = int(_positive(num_thrs, 'num_thrs'))

    @property
    def what(self) -> str:
        """Names the numbers, for the title."""
        return f'AUC of PCK from 0 to {self.norm_factor:g} pixels in {self.num_thrs} steps'

    def compute(self) -> dict[str, Any]:
        """AUC in [0, 1], and `boxes`."""
        scaled = self.distances() / self.norm_factor
        values = [mean_pck(scaled, self.labelled, i / self.num_thrs) for i in range(self.num_thrs)]
        return {'AUC': float(np.mean(values)), 'boxes': self.boxes}


@METRICS.register_module()
class EPE(KeypointMetric):
    """End-point error: the mean of |p - g| in pixels, over labelled keypoints of all persons.

    Persons that were not predicted have no distance and are left out.
    """

    names = ('EPE',)

    @property
    def what(self) -> str:
        """Names the numbers, for the title."""
        return 'EPE in pixels'

    def compute(self) -> dict[str, Any]:
        """EPE, and `boxes`."""
        distances = self.distances()
        return {'EPE': mean(distances, self.labelled), 'boxes': self.boxes}


@METRICS.register_module()
class NME(KeypointMetric):
    """Normalised mean error: the mean of |p - g| / s over labelled keypoints of all persons.

    Persons that were not predicted, or have no s, are left out; the title counts the latter.

    Args:
        dataset: whose persons are predicted.
        norm_mode: 'use_norm_item' takes s from `norm_item`, 'keypoint_distance' from two keypoints.
        norm_item: 'bbox_size', 'head_size' or 'torso_size', see `PCKAccuracy`.
        keypoint_indices: two keypoints of the person, from 0; s is the distance of their labels,
            for faces that of the eyes' outer corners (Sagonas et al. 2013).

    Raises:
        ValueError: these do not fit together or the dataset.
    """

    names = ('NME',)

    def __init__(
        self,
        dataset: 'TopdownDataset',
        norm_mode: str,
        norm_item: str | None = None,
        keypoint_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__(dataset)
        modes = {'use_norm_item': norm_item, 'keypoint_distance': keypoint_indices}
        if norm_mode not in modes:
            raise ValueError(f"NME: no norm_mode '{norm_mode}'; {nearest(norm_mode, modes)}")
        if modes[norm_mode] is None or sum(value is not None for value in modes.values()) > 1:
            needed = 'norm_item' if norm_mode == 'use_norm_item' else 'keypoint_indices'
            raise ValueError(f"NME: norm_mode '{norm_mode}' takes {needed} and no other")
        if norm_item is not None:
            items = {f'{name}_size': name for name in SIZES}
            if norm_item not in items:
                raise ValueError(f"NME: no norm_item '{norm_item}'; {nearest(norm_item, items)}")
            self.unit = SIZES[items[norm_item]]
            self.size = person_sizes(dataset, items[norm_item])
        else:
            first, second = self._pair(keypoint_indices)
            self.unit = f'the distance from {first} to {second}'
            self.size = label_distance(dataset, first, second)

    @property
    def what(self) -> str:
        """Names the numbers, for the title."""
        without = int((~(self.size > 0)).sum())
        left_out = f' ({without} persons without it left out)' if without else ''
        return f'NME in units of {self.unit}{left_out}'

    def compute(self) -> dict[str, Any]:
        """NME, -1 where nobody can be measured, and `boxes`."""
        scaled, counted = normalised(self.distances(), self.labelled, self.size)
        return {'NME': mean(scaled, counted), 'boxes': self.boxes}

    def _pair(self, indices: Sequence[int] | None) -> tuple[str, str]:
        names = self.dataset.info.names
        pair = list(indices or ())
        if len(set(pair)) != 2 or not all(isinstance(i, int) and 0 <= i < len(names) for i in pair):
            raise ValueError(
                f'NME: keypoint_indices must be two of 0 to {len(names) - 1}, got {indices}'
            )
        return names[pair[0]], names[pair[1]]


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise ValueError(f'{name} must be above 0, got {value}')
    return value
