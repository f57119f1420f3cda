"""Groups of persons: by size, crowding and number of labelled keypoints."""

from dataclasses import dataclass

import numpy as np

from psa_pose.evaluation.diagnosis.truth import GroundTruth
from psa_pose.evaluation.pairs import Pairs

COCO_SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 1e10)}
_OVERLAP = 0.1


@dataclass(frozen=True)
class Group:
    """Some of the persons.

    Attributes:
        division: what it is a part of: 'size', 'quartile', 'crowding' or 'keypoints'.
        name: which part.
        persons: (G,) bool, evaluated persons in it.
    """

    division: str
    name: str
    persons: np.ndarray


def groups(truth: GroundTruth) -> list[Group]:
    """All divisions, without their empty parts.

    - size: COCO's, by area in pixels: medium above 32 x 32, large above 96 x 96.
    - quartile: of the areas of the evaluated persons.
    - crowding: other persons (with keypoints or without, not crowd regions) whose boxes overlap
      this one's with IoU above 0.1 (paper, section 4).
    - keypoints: how many are labelled (paper, section 4).
    """
    area, asked = truth.area, ~truth.ignored
    found = [
        Group('size', name, asked & (area >= low) & (area < high))
        for name, (low, high) in COCO_SIZES.items()
    ]
    edges = np.quantile(area[asked], (0.25, 0.5, 0.75))
    part = np.searchsorted(edges, area, 'left')
    for i, name in enumerate(_quartile_names(edges)):
        found.append(Group('quartile', name, asked & (part == i)))
    for division, numbers, bounds in (
        ('crowding', overlapping(truth), (0, 1, 3)),
        ('keypoints', truth.labelled.sum(1), (1, 6, 11, 16)),
    ):
        for low, after in zip(bounds, (*bounds[1:], None), strict=True):
            inside = (numbers >= low) & (numbers < after if after else True)
            found.append(Group(division, _range_name(low, after), asked & inside))
    return [group for group in found if group.persons.any()]


def overlapping(truth: GroundTruth) -> np.ndarray:
    """(G,) how many other persons' boxes overlap each one's with IoU above 0.1."""
    pairs = Pairs.of_same_image(truth.image_id, truth.image_id)
    one, other = truth.bbox[pairs.row], truth.bbox[pairs.person]
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    common = (high - low).clip(0).prod(1)
    union = one[:, 2:].prod(1) + other[:, 2:].prod(1) - common
    counted = (common > _OVERLAP * union) & (pairs.row != pairs.person) & ~truth.crowd[pairs.person]
    return np.bincount(pairs.row[counted], minlength=len(truth))


def _quartile_names(edges: np.ndarray) -> list[str]:
    """Sides of the squares that are as large as the quartiles' bounds."""
    first, second, third = (f'{side:.0f}²' for side in np.sqrt(edges))
    return [f'to {first}', f'{first} to {second}', f'{second} to {third}', f'above {third}']


def _range_name(low: int, after: int | None) -> str:
    if after is None:
        return f'{low} or more'
    return str(low) if after == low + 1 else f'{low} to {after - 1}'
