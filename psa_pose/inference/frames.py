"""One image or video, and what it gives: frames."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from time import monotonic

import cv2
import numpy as np

from psa_pose.datasets.transforms.loading import MAX_MEGAPIXELS, read_image
from psa_pose.errors import DataError

WEBCAM = 'webcam:'
_ORIENTATION = 0x0112  # EXIF's tag
_USUAL_FPS = 25.0  # where a video does not say
_SILENT = 0  # a level of OpenCV's log
_END_SLACK = 2  # frames: what containers say of their length is now and then an estimate


@dataclass(frozen=True)
class Frame:
    """An image, or a frame of a video.

    Attributes:
        source: where it is from.
        image: (H, W, 3) uint8, RGB; None where it could not be read, or is no longer needed.
        size: (width, height); (0, 0) where it could not be read.
        number: of a video's frame, from 0.
        time: of a video's frame, in seconds from its start; of a camera's, when it came.
        error: why it could not be used.
        turned: whether its file says by EXIF that it is to be turned, and it was not.
    """

    source: 'Source'
    image: np.ndarray | None
    size: tuple[int, int] = (0, 0)
    number: int | None = None
    time: float = 0.0
    error: DataError | None = None
    turned: bool = False

    def without_image(self) -> 'Frame':
        """The same, with its memory given back."""
        return replace(self, image=None)


class Source(ABC):
    """One image or one video.

    Attributes:
        name: for people.
        path: of a file.
        fps: frames a second of a video; None of an image.
        live: whether frames come when they come, so that none should wait for others.
    """

    name: str
    path: Path | None = None
    fps: float | None = None
    live: bool = False

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames; one that cannot be read has an `error`."""

    @property
    def length(self) -> int:
        """How many frames it says it has; 0 where it does not say."""
        return 1

    def _frame(self, image: np.ndarray, number: int | None = None, time: float = 0.0) -> Frame:
        return Frame(self, image, (image.shape[1], image.shape[0]), number, time)


class ImageFile(Source):
    """An image file, read with the same care and the same result as a dataset's."""

    def __init__(
        self, path: Path, max_megapixels: float = MAX_MEGAPIXELS, upright: bool = False
    ) -> None:
        self.path, self.name = path, str(path)
        self.max_megapixels, self.upright = max_megapixels, upright

    def frames(self) -> Iterator[Frame]:
        """The image."""
        try:
            frame = self._frame(read_image(self.name, self.max_megapixels, self.upright))
            if not self.upright:
                frame = replace(frame, turned=_is_turned(self.name))
        except DataError as error:
            frame = Frame(self, None, error=error)
        yield frame


class ImageArray(Source):
    """An image in memory."""

    def __init__(self, image: np.ndarray, number: int, channel_order: str) -> None:
        self.name = f'array {number}'
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise DataError(
                f'{self.name}: expected (H, W, 3) uint8, got shape {image.shape} of {image.dtype}'
            )
        self.image = image if channel_order == 'rgb' else image[..., ::-1]

    def frames(self) -> Iterator[Frame]:
        """The image."""
        yield self._frame(np.ascontiguousarray(self.image))


class Video(Source):
    """A video file or a camera, frame by frame.

    OpenCV turns frames upright where the file says how; each is dropped once it was looked into.
    """

    def __init__(self, source: Path | int) -> None:
        self.live = isinstance(source, int)
        self.path = None if isinstance(source, int) else source
        self.name = f'{WEBCAM}{source}' if self.live else str(source)
        self._source = source if isinstance(source, int) else str(source)
        with _Capture(self._source, self.name) as capture:
            self.fps: float = _positive(capture.get(cv2.CAP_PROP_FPS)) or _USUAL_FPS
            self._length = int(_positive(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    @property
    def length(self) -> int:
        """Frames, as the file says."""
        return 0 if self.live else self._length

    def frames(self) -> Iterator[Frame]:
        """The frames; one more with an error where the file ends before it should."""
        number, started = 0, monotonic()
        with _Capture(self._source, self.name) as capture:
            while True:
                there, image = capture.read()
                if not there:
                    break
                # A slow network skips what a camera shows meanwhile.
                time = monotonic() - started if self.live else number / self.fps
                yield self._frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), number, time)
                number += 1
        if not number or number + _END_SLACK < self.length:
            what = f'ends after {number} frames' if number else 'has no frame that can be decoded'
            said = f' of the {self.length} that it says it has' if self.length else ''
            text = f'video {self.name} {what}{said}: was it cut off, or damaged?'
            yield Frame(self, None, number=number, error=DataError(text))


class _Capture:
    """An open video, closed whatever happens."""

    def __init__(self, source: str | int, name: str) -> None:
        # What FFmpeg prints of its own names neither the file nor what to do.
        logging = getattr(cv2.utils, 'logging', cv2)  # where OpenCV 5 has it, and where 4 has it
        level = logging.setLogLevel(_SILENT)
        try:
            self.capture = cv2.VideoCapture(source)
        finally:
            logging.setLogLevel(level)
        if not self.capture.isOpened():
            self.capture.release()
            if isinstance(source, int):
                raise DataError(f'{name} cannot be opened: no camera of this number, or it is busy')
            raise DataError(f'video {name} cannot be opened: damaged, or no video that is known')

    def __enter__(self) -> cv2.VideoCapture:
        return self.capture

    def __exit__(self, *_: object) -> None:
        self.capture.release()


def _is_turned(path: str) -> bool:
    """Whether EXIF asks for a turn: ignored in training, a surprise with a telephone's picture."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # Pillow may refuse what OpenCV has read
        return False


def _positive(value: float) -> float:
    return value if isfinite(value) and value > 0 else 0.0
