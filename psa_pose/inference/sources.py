"""What can be looked into: image files, arrays, folders, patterns, videos, cameras."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from psa_pose.datasets.transforms.loading import MAX_MEGAPIXELS
from psa_pose.errors import ConfigError, DataError, nearest
from psa_pose.inference.frames import WEBCAM, ImageArray, ImageFile, Source, Video

IMAGES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'}
VIDEOS = {'.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv'}

Inputs: TypeAlias = str | Path | int | np.ndarray | Iterable[Any]


def open_sources(
    inputs: Inputs,
    channel_order: str = 'rgb',
    upright: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Iterable[Source]:
    """What `inputs` means, in order.

    Args:
        inputs: see `Inferencer`.
        channel_order: of arrays, 'rgb' or 'bgr'.
        upright: see `read_image`.
        max_megapixels: likewise.

    Returns:
        A list; of an iterator (and of nothing else) an iterator, so that it may be endless.

    Raises:
        DataError: no such file, nothing by a pattern or in a folder, or no image.
    """
    if channel_order not in ('rgb', 'bgr'):
        raise ConfigError(f"channel_order must be 'rgb' or 'bgr', got {channel_order!r}")

    def opened(item: Any, arrays: int) -> list[Source]:
        if isinstance(item, np.ndarray):
            images = item if item.ndim == 4 else [item]
            return [ImageArray(image, arrays + i, channel_order) for i, image in enumerate(images)]
        if isinstance(item, int) and not isinstance(item, bool):
            return [Video(item)]
        if isinstance(item, str | Path):
            return _from_text(item, upright, max_megapixels)
        raise DataError(
            f'expected a path, an array or the number of a camera, got {type(item).__name__}'
        )

    def each(items: Iterable[Any]) -> Iterator[Source]:
        arrays = 0
        for item in items:
            found = opened(item, arrays)
            arrays += sum(isinstance(source, ImageArray) for source in found)
            yield from found

    if isinstance(inputs, str | Path | int | np.ndarray) or not isinstance(inputs, Iterable):
        return opened(inputs, 0)
    return each(inputs) if isinstance(inputs, Iterator) else list(each(inputs))


def _from_text(item: str | Path, upright: bool, max_megapixels: float) -> list[Source]:
    text, path = str(item), Path(item)
    if text.startswith(WEBCAM):
        number = text.removeprefix(WEBCAM)
        if not number.isdecimal():
            raise DataError(f"expected '{WEBCAM}' and a number, such as {WEBCAM}0, got '{text}'")
        return [Video(int(number))]
    if path.is_dir():
        visible = (p for p in path.iterdir() if not p.name.startswith('.'))
        found = sorted(p for p in visible if p.suffix.lower() in IMAGES)
        if not found:
            raise DataError(
                f'folder {path} has no image; images end in {", ".join(sorted(IMAGES))}, and those '
                f"of its folders are '{path}/**/*.jpg'"
            )
    elif path.exists():
        found = [path]
    elif glob.has_magic(text):
        known = IMAGES | VIDEOS
        found = sorted(Path(p) for p in glob.glob(text, recursive=True))
        found = [p for p in found if p.suffix.lower() in known]
        if not found:
            raise DataError(f'no image or video by the pattern {text}')
    else:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f'and no folder {path.parent}'
        raise DataError(f'no file {path}; {hint[:200]}')
    return [
        Video(p) if p.suffix.lower() in VIDEOS else ImageFile(p, max_megapixels, upright)
        for p in found
    ]
