"""What flows between the parts: dataset -> model -> metric."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from psa_pose.errors import DataError

# COCO's per-keypoint sigmas (cocodataset.org/#keypoints-eval), by body part without its side.
_PART_SIGMAS = {
    'nose': 0.026,
    'eye': 0.025,
    'ear': 0.035,
    'shoulder': 0.079,
    'elbow': 0.072,
    'wrist': 0.062,
    'hip': 0.107,
    'knee': 0.087,
    'ankle': 0.089,
}
_UNKNOWN_PART_SIGMA = 0.079  # as wide as a shoulder: neither the strictest nor the laxest
_LOWER_BODY = ('hip', 'pelvis', 'knee', 'ankle', 'foot', 'toe', 'heel')


# A side by its letter: l_hip, hip_R, lHip, LHip, hipL; not the end or the start of a word.
_LETTER = re.compile(
    r'^[lr](?=[A-Z_\W])|^[LR](?=[A-Z][a-z]|[_\W])|(?<=[_\W])[lrLR](?=[_\W]|$)|(?<=[a-z])[LR]$'
)
_OTHER_LETTER = dict(zip('lrLR', 'rlRL', strict=True))


def side_of(name: str) -> str:
    """'left', 'right' or '' as a keypoint's name says, in full or by its letter."""
    for side in ('left', 'right'):
        if side in name.lower():
            return side
    letter = _LETTER.search(name)
    return {'l': 'left', 'r': 'right'}[letter[0].lower()] if letter else ''


def _part(name: str) -> str:
    plain = name.lower().replace('left', '').replace('right', '')
    if plain == name.lower():
        plain = _LETTER.sub('', name, count=1).lower()
    return plain.strip(' _-.')


def _mirrored(name: str) -> str:
    """The name of the keypoint that changes places with `name` in a mirror."""
    for side, other in (('left', 'right'), ('right', 'left')):
        for spell in (str.lower, str.capitalize, str.upper):
            if spell(side) in name:
                return name.replace(spell(side), spell(other))
    return _LETTER.sub(lambda letter: _OTHER_LETTER[letter[0]], name, count=1)


@dataclass(frozen=True)
class KeypointInfo:
    """What a dataset says of its keypoints; everything that depends on K is derived from here.

    Attributes:
        names: K names, in the order of every `(K, ...)` array.
        skeleton: pairs of keypoint indices, from 0.
        sigmas: K standard deviations of OKS (half of COCO's `k`), in units of sqrt(area).
        sigmas_source: 'dataset' (in its file), 'coco' (COCO's own names) or 'guessed' by body part.
    """

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    sigmas_source: str = 'dataset'

    @classmethod
    def from_category(cls, category: Mapping[str, Any], source: str) -> 'KeypointInfo':
        """Read an entry of a COCO-style JSON's `categories`.

        Args:
            category: with `keypoints` (names) and, at will, `skeleton` (from 1) and `sigmas`.
            source: the file, for error messages.
        """
        listed = category.get('keypoints', [])
        if not isinstance(listed, list | tuple) or not all(isinstance(n, str) for n in listed):
            raise DataError(f'{source}: keypoints must be a list of names, got {str(listed)[:80]}')
        names = tuple(listed)
        if not names:
            raise DataError(f"{source}: its category '{category.get('name')}' lists no keypoints")
        if len(set(names)) != len(names):
            raise DataError(f'{source}: keypoint names occur twice: {list(names)}')
        try:
            skeleton = tuple((int(a) - 1, int(b) - 1) for a, b in category.get('skeleton', ()))
            sigmas = tuple(float(s) for s in category.get('sigmas', ()))
        except (TypeError, ValueError, OverflowError):
            found = {key: str(category.get(key))[:80] for key in ('skeleton', 'sigmas')}
            raise DataError(
                f'{source}: expected pairs of whole numbers as skeleton and numbers as sigmas, '
                f'got {found}'
            ) from None
        if any(not 0 <= end < len(names) for bone in skeleton for end in bone):
            raise DataError(f'{source}: skeleton names a keypoint outside 1..{len(names)}')
        if 'sigmas' not in category:
            return cls(names, skeleton, *guess_sigmas(names))
        if len(sigmas) != len(names) or not all(0 < sigma < math.inf for sigma in sigmas):
            raise DataError(
                f'{source}: expected {len(names)} positive sigmas, found {list(sigmas)}'
            )
        return cls(names, skeleton, sigmas)

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.names)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """For each keypoint the index of its mirror image.

        `left_x` and `right_x` change places, and so do `l_x` and `r_x`.
        """
        index = {name: i for i, name in enumerate(self.names)}
        return tuple(index.get(_mirrored(name), i) for i, name in enumerate(self.names))

    @property
    def lower_body(self) -> np.ndarray:
        """(K,) bool: keypoints from the hips down."""
        return np.array([any(p in name.lower() for p in _LOWER_BODY) for name in self.names])


def guess_sigmas(names: Sequence[str]) -> tuple[tuple[float, ...], str]:
    """Sigmas by body part, and 'coco' where every name is one of COCO's or else 'guessed'."""
    sigmas = tuple(_PART_SIGMAS.get(_part(name), _UNKNOWN_PART_SIGMA) for name in names)
    return sigmas, 'coco' if tuple(names) == COCO_KEYPOINTS.names else 'guessed'


def _coco_like(names: str, skeleton: str) -> KeypointInfo:
    """Keypoints named as COCO's; bones as `a-b`, indices from 0."""
    parts = tuple(names.split())
    bones = [bone.split('-') for bone in skeleton.split()]
    sigmas = tuple(_PART_SIGMAS[_part(name)] for name in parts)
    return KeypointInfo(parts, tuple((int(a), int(b)) for a, b in bones), sigmas, 'coco')


COCO_KEYPOINTS = _coco_like(
    'nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow'
    ' right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle'
    ' right_ankle',
    '15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6',
)

_MPII_NAMES = (
    'right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck'
    ' head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist'
)
_MPII_BONES = '0-1 1-2 2-6 6-3 3-4 4-5 6-7 7-8 8-9 7-12 12-11 11-10 7-13 13-14 14-15'
MPII_KEYPOINTS = KeypointInfo(
    tuple(_MPII_NAMES.split()),
    tuple((int(a), int(b)) for a, b in (bone.split('-') for bone in _MPII_BONES.split())),
    *guess_sigmas(_MPII_NAMES.split()),
)


class PoseBatch(NamedTuple):
    """Persons as a worker emits them, cut out of their images and collated (B persons).

    No float image and no heatmap: both are made on the device.
    """

    crop: Tensor
    """(B, H, W, 3) uint8, RGB."""
    keypoints: Tensor
    """(B, K, 2) float32, x and y in crop pixels (pixel centres at integers)."""
    visible: Tensor
    """(B, K) float32, 1 where the keypoint is labelled, else 0."""
    to_image: Tensor
    """(B, 2, 3) float32, the affine from crop pixels to image pixels."""
    person: Tensor
    """(B,) int64, the person's index in its dataset."""
    usable: Tensor
    """(B,) bool, False where the image could not be read and was skipped."""


class PosePrediction(NamedTuple):
    """Decoded keypoints of B persons."""

    keypoints: Tensor
    """(B, K, 2) x and y in image pixels."""
    scores: Tensor
    """(B, K), the heatmap's maximum."""
