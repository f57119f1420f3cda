"""Persons followed through a video, each smoothed by itself."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from psa_pose.errors import DataError
from psa_pose.inference.frames import Frame, Source
from psa_pose.inference.result import PoseResult
from psa_pose.inference.smoothing import OneEuro, Smoothing


def smoothed(
    pairs: Iterable[tuple[Frame, PoseResult]], sigmas: Sequence[float], options: Smoothing
) -> Iterator[tuple[Frame, PoseResult]]:
    """Frames of videos with smooth keypoints, and the numbers of their persons.

    Args:
        pairs: frames and results, in order.
        sigmas: (K,) of OKS.
        options: of matching and filter.

    Raises:
        DataError: an image, which has no before and after.
    """
    source, tracker = None, PoseTracker(sigmas, options)
    for frame, result in pairs:
        check_videos([frame.source])
        if frame.source is not source:
            source, tracker = frame.source, PoseTracker(sigmas, options)
        keypoints, tracks = tracker(result.keypoints, result.boxes, frame.time)
        yield frame, replace(result, keypoints=keypoints, tracks=tracks)


def check_videos(sources: Iterable[Source]) -> None:
    """Raises DataError at an image: nothing comes before or after it."""
    for source in sources:
        if source.fps is None:
            raise DataError(f'{source.name}: smoothing is for videos, and this is none')


@dataclass
class _Track:
    """A person."""

    number: int
    filter: OneEuro
    box: np.ndarray
    seen: float

    def expected(self, time: float) -> np.ndarray:
        """Shift (2,) of the whole person by now: of those who cross, each goes on its way."""
        return np.median(self.filter.speed, 0) * (time - self.seen)


class PoseTracker:
    """Gives persons numbers, and smooths each by itself.

    Poses of a frame are matched with the tracks greedily, the most alike first: by OKS with where
    the track should be by now, then, of those left over, by the overlap of their boxes.

    Args:
        sigmas: (K,) of OKS.
        options: of matching and filter.
    """

    def __init__(self, sigmas: Sequence[float], options: Smoothing | None = None) -> None:
        self.variances = (2 * np.asarray(sigmas)) ** 2
        self.options = options or Smoothing()
        self.tracks: list[_Track] = []
        self._next = 0

    def __call__(
        self, keypoints: np.ndarray, boxes: np.ndarray, time: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next frame.

        Args:
            keypoints: (N, K, 2) in pixels.
            boxes: (N, 4), x1, y1, x2, y2.
            time: in seconds, later than before.

        Returns:
            Smooth keypoints (N, K, 2) float32, and the persons' numbers (N,) int64, from 0.
        """
        options = self.options
        self.tracks = [t for t in self.tracks if time - t.seen <= options.max_gap]
        smooth = np.array(keypoints, np.float32)
        numbers = np.full(len(keypoints), -1, np.int64)
        assigned = self._match(keypoints, boxes, time)
        for i, (points, box) in enumerate(zip(keypoints, boxes, strict=True)):
            track = assigned.get(i)
            if track is None:
                track = _Track(self._next, OneEuro(points, time, options), box, time)
                self.tracks.append(track)
                self._next += 1
            else:
                smooth[i] = track.filter(points, time, _size(box))
                track.box, track.seen = box, time
            numbers[i] = track.number
        return smooth, numbers

    def _match(self, keypoints: np.ndarray, boxes: np.ndarray, time: float) -> dict[int, _Track]:
        """Tracks by the index of their person."""
        if not self.tracks or not len(keypoints):
            return {}
        shift = np.stack([t.expected(time) for t in self.tracks])
        places = np.stack([t.filter.points for t in self.tracks]) + shift[:, None]
        theirs = np.stack([t.box for t in self.tracks]) + np.tile(shift, 2)
        areas = np.maximum(_area(boxes), 1)[:, None, None]
        squares = ((keypoints[:, None] - places[None]) ** 2).sum(-1)
        oks = np.exp(-squares / (2 * areas * self.variances)).mean(-1)
        found: dict[int, int] = {}
        for alike, least in (
            (oks, self.options.min_oks),
            (_iou(boxes, theirs), self.options.min_iou),
        ):
            for flat in np.argsort(-alike, axis=None, kind='stable'):
                i, j = divmod(int(flat), len(self.tracks))
                if alike[i, j] < least:
                    break
                if i not in found and j not in found.values():
                    found[i] = j
        return {i: self.tracks[j] for i, j in found.items()}


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def _size(box: np.ndarray) -> float:
    return max(float(np.sqrt(_area(box))), 1.0)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    return both / np.maximum(_area(a)[:, None] + _area(b) - both, 1e-9)
