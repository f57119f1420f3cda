"""Maps over pictures, words under them, and many of them on one sheet; RGB uint8 throughout."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from psa_pose.errors import ConfigError
from psa_pose.files import write_bytes

# Perceptually uniform and the same to colour-blind eyes (Nunez, Anderton, Renslow 2018).
_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_CIVIDIS)[..., ::-1].copy()
_FONT, _LINE, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 15, 4
INK, PAPER = (0, 0, 0), (255, 255, 255)
PICTURES = ('.png', '.jpg', '.jpeg', '.webp')
"""Endings of files that pictures can be written to."""


def overlay(
    image: np.ndarray,
    values: np.ndarray,
    alpha: float = 0.8,
    *,
    low: float | None = None,
    high: float | None = None,
    fade: bool = True,
    stride: tuple[float, float] | None = None,
    origin: float = 0,
) -> np.ndarray:
    """Lay a map over the grey of a picture: from dark blue where it is low to yellow where high.

    Args:
        image: (H, W, 3) uint8, RGB.
        values: (h, w), of any size; where they are no numbers the picture shows.
        alpha: how opaque the map is where it is highest.
        low: what is darkest; by default the smallest value.
        high: what is brightest; by default the greatest.
        fade: let the picture through where the map is low, as of heatmaps, which are zero nearly
            everywhere; otherwise the map is equally opaque all over.
        stride: picture pixels in a map pixel, in x and in y; by default W / w and H / h. Map pixel
            i lies on picture pixel i * stride + origin, as a network's maps and the codecs'
            heatmaps do.
        origin: picture pixel of the map's first; 0 unless the picture was enlarged.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    height, width = image.shape[:2]
    finite = np.isfinite(values)
    low = float(values[finite].min(initial=np.inf)) if low is None else low
    high = float(values[finite].max(initial=-np.inf)) if high is None else high
    span = high - low if high > low else 1.0
    share = np.where(finite, (np.where(finite, values, 0) - low) / span, 0).clip(0, 1)
    across, down = stride or (width / values.shape[1], height / values.shape[0])
    place = np.array([[across, 0, origin], [0, down, origin]], np.float32)
    share, shown = (
        cv2.warpAffine(
            layer.astype(np.float32), place, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        for layer in (share, finite)
    )
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    weight = alpha * shown * (np.sqrt(share) if fade else 1)
    mixed = grey + weight[..., None] * (colored(share).astype(np.float32) - grey)
    return np.round(mixed).clip(0, 255).astype(np.uint8)


def colored(share: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, RGB, of values (H, W) in [0, 1]."""
    levels = np.round(share * 255).astype(np.uint8)
    return cv2.LUT(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), _COLORS)


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, captions: Sequence[str] | None = None
) -> np.ndarray:
    """Pictures in rows, each with words under it; a column is as wide as its widest picture.

    Args:
        images: each (H, W, 3) uint8, RGB, of any size; not none.
        columns: pictures in a row.
        captions: one for each picture; longer ones are broken into lines.
    """
    if not images or columns < 1:
        raise ValueError(f'{len(images)} pictures in {columns} columns: at least one of each')
    words = captions or [''] * len(images)
    columns = min(columns, len(images))
    widths = [max(i.shape[1] for i in images[c::columns]) for c in range(columns)]
    rows = []
    for first in range(0, len(images), columns):
        cells = [
            _cell(image, lines(text, width), width)
            for image, text, width in zip(
                images[first : first + columns], words[first:], widths, strict=False
            )
        ]
        cells += [_cell(images[0][:0, :0], (), width) for width in widths[len(cells) :]]
        height = max(len(cell) for cell in cells)
        rows.append(np.hstack([_below(cell, height) for cell in cells]))
    return np.vstack(rows)


def _cell(image: np.ndarray, text: Sequence[str], width: int) -> np.ndarray:
    """A picture with lines under it, margins around both."""
    height = len(image) + len(text) * _LINE + 2 * _MARGIN
    cell = np.full((height + _MARGIN, width + 2 * _MARGIN, 3), 255, np.uint8)
    cell[_MARGIN:, _MARGIN:][: len(image), : image.shape[1]] = image
    for i, line in enumerate(text, 1):
        write(cell, line, (_MARGIN, len(image) + _MARGIN + _LINE * i - 2))
    return cell


def _below(cell: np.ndarray, height: int) -> np.ndarray:
    """White paper under a cell, down to `height`."""
    return cv2.copyMakeBorder(cell, 0, height - len(cell), 0, 0, cv2.BORDER_CONSTANT, value=PAPER)


def write(
    image: np.ndarray,
    text: str,
    place: tuple[int, int],
    color: tuple[int, int, int] = INK,
    ground: tuple[int, int, int] | None = None,
    scale: float = 0.4,
) -> None:
    """Write a line of text; `place` is its lower left corner, `ground` the colour behind it."""
    if ground is not None:
        (width, height), below = cv2.getTextSize(plain(text), _FONT, scale, 1)
        x, y = place
        cv2.rectangle(image, (x - 2, y - height - 2), (x + width + 1, y + below), ground, -1)
    cv2.putText(image, plain(text), place, _FONT, scale, color, 1, cv2.LINE_AA)


def lines(text: str, width: int, scale: float = 0.4) -> list[str]:
    """Text broken into lines of at most `width` pixels, between words where that can be."""
    found = []
    for line in plain(text).split('\n') if text else ():
        rest = ''
        for word in line.split(' '):
            longer = f'{rest} {word}' if rest else word
            if rest and cv2.getTextSize(longer, _FONT, scale, 1)[0][0] > width:
                found.append(rest)
                rest = word
            else:
                rest = longer
        found.append(rest)
    return found


def plain(text: str) -> str:
    """The font has no letters but ASCII's."""
    return text.encode('ascii', 'replace').decode()


def save(path: Path, image: np.ndarray, quality: int = 80) -> None:
    """Write a picture, in the format that the file's ending names; see `encoded`.

    Raises:
        ConfigError: an ending of no picture.
        OSError: it cannot be written.
    """
    data = encoded(image, check_ending(path).suffix.lower(), quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


def encoded(image: np.ndarray, ending: str, quality: int = 80) -> bytes:
    """A picture (H, W, 3) uint8, RGB, as the bytes of a file with this ending.

    JPEGs have `quality`: 80 is enough for sheets, 95 is OpenCV's own for photographs.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending in ('.jpg', '.jpeg') else []
    done, data = cv2.imencode(ending, image[..., ::-1], options)
    if not done:
        raise OSError(f'a picture of {image.shape} cannot be encoded as {ending}')
    return data.tobytes()


def check_ending(path: Path) -> Path:
    """The path itself, if pictures can be written to it."""
    if path.suffix.lower() not in PICTURES:
        raise ConfigError(f'{path}: a picture ends in one of {", ".join(PICTURES)}')
    return path
