"""Where persons are looked for: in boxes of the user, of a file, of a detector, or everywhere."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from psa_pose.datasets.persons import LARGEST
from psa_pose.errors import DataError
from psa_pose.inference.frames import Frame, Source

Boxes: TypeAlias = str | Path | np.ndarray | Sequence[Any] | Callable[[np.ndarray], Any] | None
Found: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Boxes (N, 4) float32, x1, y1, x2, y2 in pixels, and their scores (N,) float32."""


class BoxSource(ABC):
    """Gives each frame its boxes.

    Attributes:
        text: says where they come from.
    """

    text: str

    @abstractmethod
    def __call__(self, frame: Frame, number: int) -> Found:
        """Boxes of a frame of the source `number`, counted from 0.

        Raises:
            DataError: boxes that cannot be right.
        """

    def check(self, sources: Iterable[Source]) -> None:
        """Refuse sources that there cannot be boxes for, before the first is looked into."""
        return


class WholeImage(BoxSource):
    """One box, as a dataset clips one that covers its image."""

    text = 'the whole image'

    def __call__(self, frame: Frame, number: int) -> Found:
        """The frame's edges."""
        width, height = frame.size
        if min(width, height) < 2:
            raise DataError(f'{frame.source.name}: {width}x{height} pixels hold no person')
        box = np.array([[0, 0, width - 1, height - 1]], np.float32)
        return box, np.ones(1, np.float32)


class GivenBoxes(BoxSource):
    """Arrays: one for the one image or video, or a list of one for each."""

    def __init__(self, boxes: Any, box_thr: float) -> None:
        self.box_thr = box_thr
        self.shared = _is_one_array(boxes)
        self.boxes = [boxes] if self.shared else list(boxes)
        self.text = 'given' if self.shared else f'given for {len(self.boxes)} images'

    def check(self, sources: Iterable[Source]) -> None:
        """As many arrays as there are images."""
        count = len(sources) if isinstance(sources, list) else None
        if self.shared and count != 1:
            raise DataError(
                f'one array of boxes for {"many" if count is None else count} images: give a list '
                'with an array for each'
            )
        if count is not None and count != len(self.boxes):
            raise DataError(f'{len(self.boxes)} arrays of boxes for {count} images')

    def __call__(self, frame: Frame, number: int) -> Found:
        """Those of the list's place."""
        if number >= len(self.boxes):
            raise DataError(f'{len(self.boxes)} arrays of boxes, and more images')
        return read_boxes(self.boxes[number], frame, frame.source.name, self.box_thr)


class Called(BoxSource):
    """What a function, such as a detector, says of each image."""

    def __init__(self, function: Callable[[np.ndarray], Any], box_thr: float) -> None:
        self.function, self.box_thr = function, box_thr
        self.text = str(getattr(function, 'text', None) or getattr(function, '__name__', function))

    def __call__(self, frame: Frame, number: int) -> Found:
        """Boxes as the function returns them, from the image."""
        assert frame.image is not None, 'only images that were read have boxes'
        return read_boxes(self.function(frame.image), frame, frame.source.name, self.box_thr)


def read_boxes(boxes: Any, frame: Frame, where: str, box_thr: float) -> Found:
    """Boxes of one image, checked.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, or (N, 5) with a score.
        frame: their image.
        where: for errors.
        box_thr: those with a score above are used; boxes without scores always.

    Raises:
        DataError: another shape, not finite, of no size, or outside the image; says which box.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise DataError(f'{where}: boxes that are no numbers: {str(boxes)[:80]}') from None
    if not array.size:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise DataError(
            f'{where}: expected boxes of shape (N, 4), x1, y1, x2, y2, or (N, 5) with a score, got '
            f'{array.shape}'
        )
    (width, height), box = frame.size, array[:, :4]
    inside = np.clip(box, 0, [width - 1, height - 1] * 2)
    with np.errstate(invalid='ignore'):
        for bad, reason in (
            (~(np.abs(array) <= LARGEST).all(1), 'is not finite'),
            (
                (box[:, 2:] <= box[:, :2]).any(1),
                'has no size: expected x1 < x2 and y1 < y2; is it x, y, width, height?',
            ),
            (
                (inside[:, 2:] <= inside[:, :2]).any(1),
                f'lies outside the image of {width}x{height} pixels',
            ),
        ):
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise DataError(f'{where}: box {row}, {array[row].tolist()}, {reason}')
    if array.shape[1] == 4:
        return box.astype(np.float32), np.ones(len(box), np.float32)
    kept = array[:, 4] > box_thr
    return box[kept].astype(np.float32), array[kept, 4].astype(np.float32)


def _is_one_array(boxes: Any) -> bool:
    """Whether it is (N, 4) or (N, 5), and not a list of such."""
    if isinstance(boxes, np.ndarray):
        return boxes.ndim <= 2
    return all(np.isscalar(row) or (len(row) and np.isscalar(row[0])) for row in boxes)
