"""The one warp of a sample: a box of the image, flipped, scaled and rotated, becomes the crop."""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from psa_pose.registry import TRANSFORMS


def image_to_crop(
    center: np.ndarray,
    scale: np.ndarray,
    rotation: float,
    crop_size: tuple[int, int],
    flip_width: int | None = None,
    unbiased: bool = False,
) -> np.ndarray:
    """The affine that takes image pixels to crop pixels.

    The centre of the box comes to (width / 2, height / 2) of the crop, as in the field's
    published weights (Xiao et al. 2018). Pixel centres are integers, so the crop's own centre is
    half a pixel before: `unbiased` brings the box's there, and a box's side to the interval
    between the centres of the crop's first and last pixel (Huang et al. 2020). Of a box of the
    crop's shape the two sides are then magnified a little differently.

    Args:
        center: (2,) of the box, in (mirrored, where flipped) image pixels.
        scale: (2,) width and height of the box; only the width sets the magnification, unless
            `unbiased`.
        rotation: degrees; positive turns the person counter-clockwise on the screen.
        crop_size: (width, height) of the crop.
        flip_width: width of the image where it is to be mirrored first, else None.
        unbiased: sizes in intervals; the codec says whether it wants this.

    Returns:
        (2, 3) float64.
    """
    size = np.asarray(crop_size) - unbiased
    magnification = size / scale if unbiased else np.full(2, size[0] / scale[0])
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = magnification[:, None] * np.array([[cos, sin], [-sin, cos]])
    offset = size / 2 - linear @ center
    if flip_width is not None:  # x becomes flip_width - 1 - x before everything else
        offset = offset + linear[:, 0] * (flip_width - 1)
        linear = linear * np.array([-1.0, 1.0])
    return np.column_stack([linear, offset])


def crop_to_image(affine: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) affine, exact to float64 rounding."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (..., 2) by a (2, 3) affine."""
    return points @ affine[:, :2].T + affine[:, 2]


def fix_aspect_ratio(scale: np.ndarray, crop_size: tuple[int, int]) -> np.ndarray:
    """Grow the shorter side of boxes (..., width and height) to the shape of the crop."""
    width, height = scale[..., 0], scale[..., 1]
    ratio = crop_size[0] / crop_size[1]
    return np.stack([np.maximum(width, height * ratio), np.maximum(height, width / ratio)], -1)


@TRANSFORMS.register_module()
class TopdownAffine(BaseTransform):
    """Cut the box out of the image with one bilinear warp; move the keypoints along.

    Reads `img`, `center`, `scale`, `rotation`, `flip`, `keypoints`, `input_size` and
    `unbiased_affine`; adds `crop` (uint8) and `to_image` (2, 3); `keypoints` are in crop pixels
    afterwards.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        size = results['input_size']
        affine = image_to_crop(
            results['center'],
            fix_aspect_ratio(results['scale'], size),
            results.get('rotation', 0.0),
            size,
            results['img'].shape[1] if results.get('flip') else None,
            results.get('unbiased_affine', False),
        )
        results['crop'] = cv2.warpAffine(results['img'], affine, size, flags=cv2.INTER_LINEAR)
        results['keypoints'] = apply_affine(affine, results['keypoints'])
        results['to_image'] = crop_to_image(affine)
        return results
