"""From a path to an RGB image, or to an error that names the path."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from psa_pose.datasets.transforms.image_header import image_size
from psa_pose.errors import DataError
from psa_pose.registry import TRANSFORMS

_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
# Inside a scan 0xff is followed by 0x00 or a restart marker, or fills up before another 0xff.
_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')


MAX_MEGAPIXELS = 100.0
_MAX_BYTES = 1 << 30  # of a file


def read_image(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, upright: bool = False
) -> np.ndarray:
    """Decode an image file.

    A JPEG that was cut off is refused: OpenCV would fill what is missing with grey and go on.

    Args:
        path: the file.
        max_megapixels: a file that claims more is refused before it is decoded.
        upright: turn it as EXIF says; otherwise that is ignored, as COCO's annotations do.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        DataError: the file is missing, truncated, not an image, or too large.
    """
    try:
        if os.stat(path).st_size > _MAX_BYTES:
            raise DataError(f'image {path} is a file of more than {_MAX_BYTES >> 20} MiB')
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f'cannot read image {path}: {error.strerror}') from None
    size = image_size(data)
    if size is not None and size[0] * size[1] > max_megapixels * 1e6:
        raise DataError(
            f'image {path} claims to be {size[0]}x{size[1]} pixels, more than '
            f'{max_megapixels:g} million; LoadImage(max_megapixels=...) allows more'
        )
    if data.startswith(_START_OF_IMAGE) and _is_truncated(data):
        raise DataError(f'image {path} is truncated: {len(data)} bytes, no end-of-image marker')
    image = None
    if size is not None:
        flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
        with suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise DataError(f'image {path} is corrupt or not an image: {len(data)} bytes')
    return image


def _is_truncated(jpeg: bytes) -> bool:
    """Whether the end-of-image marker is missing; one inside a segment is a thumbnail's."""
    marker = _MARKER.search(jpeg, len(_START_OF_IMAGE))
    while marker is not None and marker.group() != _END_OF_IMAGE:
        if marker.group() == _START_OF_SCAN and jpeg.endswith(_END_OF_IMAGE):
            return False  # from here on no segment can hold a thumbnail
        length = int.from_bytes(jpeg[marker.end() : marker.end() + 2], 'big')
        marker = _MARKER.search(jpeg, marker.end() + length)
    return marker is None


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read `img_path` into `img`, (H, W, 3) uint8 RGB, of the annotated `img_size`.

    Where the annotations say no size, `img_size` is (0, 0) and becomes the image's. The array is
    read-only: other persons of the image may be cut out of the same one.

    Args:
        cache: MiB that the workers of a rank may together keep of decoded images, each until the
            last of its persons has come; 0 decodes anew for everybody.
        max_megapixels: see `read_image`.
    """

    def __init__(self, cache: int = 512, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        if cache < 0:
            raise ValueError(f'cache must be MiB from 0 on, got {cache}')
        if not max_megapixels > 0:
            raise ValueError(f'max_megapixels must be above 0, got {max_megapixels}')
        self.cache = cache
        self.max_megapixels = max_megapixels
        self._kept: dict[Path, np.ndarray] = {}
        self._kept_bytes = 0
        self._epoch: int | None = None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = self._read(results['img_path'], results.get('epoch'), results.get('again', False))
        size, annotated = image.shape[1::-1], results['img_size']
        if annotated != (0, 0) and size != annotated:
            raise DataError(
                f'image {results["img_path"]} is {size[0]}x{size[1]} pixels, but annotated as '
                f'{annotated[0]}x{annotated[1]}'
            )
        results['img'], results['img_size'] = image, size
        return results

    def _read(self, path: Path, epoch: int | None, again: bool) -> np.ndarray:
        if epoch != self._epoch:  # what an epoch that was broken off has left
            self._kept, self._kept_bytes, self._epoch = {}, 0, epoch
        image = self._kept.pop(path, None)
        if image is None:
            image = read_image(path, self.max_megapixels)
            image.flags.writeable = False
        else:
            self._kept_bytes -= image.nbytes
        if again and self._kept_bytes + image.nbytes <= self._limit():
            self._kept[path] = image
            self._kept_bytes += image.nbytes
        return image

    def _limit(self) -> int:
        """Bytes of this process."""
        worker = get_worker_info()
        return (self.cache << 20) // (worker.num_workers if worker else 1)
