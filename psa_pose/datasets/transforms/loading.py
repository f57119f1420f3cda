"""From a path to an RGB image, or to an error that names the path."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from psa_pose.errors import DataError
from psa_pose.registry import TRANSFORMS

_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file.

    A JPEG that was cut off is refused: OpenCV would fill what is missing with grey and go on.

    Returns:
        (H, W, 3) uint8, RGB. EXIF orientation is ignored, as COCO's annotations do.

    Raises:
        DataError: the file is missing, truncated or not an image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f'cannot read image {path}: {error.strerror}') from None
    if data.startswith(_START_OF_IMAGE) and _is_truncated(data):
        raise DataError(f'image {path} is truncated: {len(data)} bytes, no end-of-image marker')
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f'image {path} is corrupt or not an image: {len(data)} bytes')
    return image


def _is_truncated(jpeg: bytes) -> bool:
    # Inside a scan 0xff is always followed by 0x00 or a restart marker, so the last end-of-image
    # marker stands behind the last start of scan; one before it belongs to an embedded thumbnail.
    return jpeg.rfind(_END_OF_IMAGE) < jpeg.rfind(_START_OF_SCAN)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read `img_path` into `img`, (H, W, 3) uint8 RGB."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results['img'] = read_image(results['img_path'])
        return results
