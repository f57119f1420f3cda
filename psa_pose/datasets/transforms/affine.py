"""The one warp of a sample: a box of the image, flipped, scaled and rotated, becomes the crop."""

import math
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


def padded_box(box: np.ndarray, padding: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre (..., 2) and grown width and height (..., 2), float64, of boxes (..., x1 y1 x2 y2)."""
    box = box.astype(np.float64)
    low, high = box[..., :2], box[..., 2:]
    return (low + high) / 2, (high - low) * padding


def fix_aspect_ratio(scale: np.ndarray, crop_size: tuple[int, int]) -> np.ndarray:
    """Grow the shorter side of boxes (..., width and height) to the shape of the crop."""
    width, height = scale[..., 0], scale[..., 1]
    ratio = crop_size[0] / crop_size[1]
    return np.stack([np.maximum(width, height * ratio), np.maximum(height, width / ratio)], -1)


def warp(image: np.ndarray, to_image: np.ndarray, crop_size: tuple[int, int]) -> np.ndarray:
    """Cut a crop out of an image, interpolated bilinearly; black beyond the image.

    OpenCV warps four channels in half the time of three, and the pixels of a box lie closer
    together once they were copied out. Results differ from a warp of the whole image by rounding:
    1 of 255 at most with OpenCV 5, some more with OpenCV 4, which counts in 32nds of a pixel.

    Args:
        image: (H, W, 3) uint8.
        to_image: (2, 3), crop pixels to image pixels.
        crop_size: (width, height) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    width, height = crop_size
    left, right = _span(to_image[0], crop_size, image.shape[1])
    top, bottom = _span(to_image[1], crop_size, image.shape[0])
    if right <= left or bottom <= top:  # nothing of the image
        return np.zeros((height, width, 3), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = image[top:bottom, left:right]
    if part.size > 4 * 3 * width * height:  # to copy all of it would cost more than it brings
        return cv2.warpAffine(image, to_image, crop_size, flags=flags)
    rgba = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    to_part = to_image - np.array([[0, 0, left], [0, 0, top]])
    return cv2.cvtColor(cv2.warpAffine(rgba, to_part, crop_size, flags=flags), cv2.COLOR_RGBA2RGB)


def _span(row: np.ndarray, crop_size: tuple[int, int], length: int) -> tuple[int, int]:
    """First pixel of those that a crop takes from one axis of the image, and the one after them."""
    across, down, start = row.tolist()
    across, down = across * crop_size[0], down * crop_size[1]
    low = math.floor(start + min(across, 0) + min(down, 0)) - 1
    high = math.ceil(start + max(across, 0) + max(down, 0)) + 2
    return max(low, 0), min(high, length)


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
        results['to_image'] = crop_to_image(affine)
        results['crop'] = warp(results['img'], results['to_image'], size)
        results['keypoints'] = apply_affine(affine, results['keypoints'])
        return results
