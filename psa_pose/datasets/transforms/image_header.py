"""The size that an image file claims, from its first bytes: nothing is decoded or allocated.

A file of a hundred bytes can claim 60000 x 60000 pixels, and a decoder believes it.
"""

import io
import re
import struct
import warnings

_MARKER = re.compile(rb'\xff[^\x00\x01\xd0-\xd7\xff]')  # of a JPEG, of those that have a length
_NO_FRAME = b'\xc4\xc8\xcc'  # among the markers 0xc0 to 0xcf, which else begin a frame
_PNG = b'\x89PNG\r\n\x1a\n'


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of an image file; None where it is none that is known, or cut off here."""
    try:
        if data.startswith(b'\xff\xd8'):
            return _jpeg(data)
        if data.startswith(_PNG):
            return struct.unpack_from('>II', data, 16)
        if data.startswith(b'BM'):
            return _bmp(data)
        if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
            return _webp(data)
    except struct.error:
        return None
    return _by_pillow(data)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Of the first frame, progressive or not; thumbnails lie inside segments, which are skipped."""
    marker = _MARKER.search(data, 2)
    while marker is not None and marker.group() != b'\xff\xda':
        kind, at = data[marker.end() - 1], marker.end()
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAME:
            height, width = struct.unpack_from('>HH', data, at + 3)
            return width, height
        marker = _MARKER.search(data, at + struct.unpack_from('>H', data, at)[0])
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    old = struct.unpack_from('<I', data, 14)[0] == 12  # of OS/2
    width, height = struct.unpack_from('<HH' if old else '<ii', data, 18)
    return abs(width), abs(height)  # a negative height is from top to bottom


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b'VP8 ':
        width, height = struct.unpack_from('<HH', data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b'VP8L':
        (bits,) = struct.unpack_from('<I', data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b'VP8X':
        low, high = struct.unpack_from('<HB', data, 24), struct.unpack_from('<HB', data, 27)
        return (low[0] | low[1] << 16) + 1, (high[0] | high[1] << 16) + 1
    return None


def _by_pillow(data: bytes) -> tuple[int, int] | None:
    """Of rarer formats (TIFF, GIF, PPM, ...): slower, and Pillow decodes nothing yet either."""
    from PIL import Image  # of torchvision's needs; slow to load

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the caller has one of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(io.BytesIO(data)) as image:
                return image.size
    except Exception:  # whatever a broken file does to Pillow: it has no size
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
