"""Persons of several images fill one batch; results come in the images' order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from psa_pose.errors import DataError
from psa_pose.inference.boxes import BoxSource
from psa_pose.inference.crops import Cropper
from psa_pose.inference.frames import Frame, Source
from psa_pose.inference.result import PoseResult
from psa_pose.structures import PoseBatch

_HELD_BYTES = 256 << 20  # of images that wait for a full batch, where they are wanted afterwards
_AHEAD_BYTES = 64 << 20  # of images that were read and are not looked into yet
_NO_BOXES = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

Numbered: TypeAlias = tuple[int, Frame]
"""A frame, and the place of its source among the inputs."""

Poses = Callable[[Sequence[PoseBatch]], tuple[np.ndarray, np.ndarray]]


def predict_frames(
    sources: Iterable[Source],
    boxes: BoxSource,
    crop: Cropper,
    poses: Poses,
    batch_size: int,
    keep_images: bool,
    skip_errors: bool,
) -> Iterator[tuple[Frame, PoseResult]]:
    """Each frame with its result.

    Whatever their number, about `batch_size` of the frames are held at a time, and no more than
    256 MiB of them; a camera's are not held at all. Of a list of files as many more are read while
    the network works, up to 64 MiB; cameras and iterators are asked only when a result is.

    Args:
        sources: images and videos.
        boxes: where persons are.
        crop: cuts them out.
        poses: keypoints (B, K, 2) and scores (B, K) of B persons.
        batch_size: the largest B.
        keep_images: whether frames still have their image afterwards.
        skip_errors: give a frame that cannot be read, or whose boxes cannot be right, a result
            with an error, instead of raising it.
    """
    waiting: deque[_Waiting] = deque()
    samples: list[PoseBatch] = []
    targets: list[_Waiting] = []

    def run() -> None:
        if samples:
            for target, points, scores in zip(targets, *poses(samples), strict=True):
                target.poses.append((points, scores))
            samples.clear()
            targets.clear()

    frames = _numbered(sources)
    if isinstance(sources, list) and not any(source.live for source in sources):
        frames = _read_ahead(frames, batch_size)
    for number, frame in frames:
        found = _NO_BOXES
        try:
            if frame.error is not None:
                raise frame.error
            found = boxes(frame, number)
        except DataError as error:
            if not skip_errors:
                raise
            frame = replace(frame, error=error)
        entry = _Waiting(frame if keep_images else frame.without_image(), *found)
        waiting.append(entry)
        for box in entry.boxes:
            assert frame.image is not None, 'only images that were read have boxes'
            samples.append(crop(frame.image, box))
            targets.append(entry)
            if len(samples) == batch_size:
                run()
        held = sum(w.frame.image.nbytes for w in waiting if w.frame.image is not None)
        if frame.source.live or len(waiting) > batch_size or held > _HELD_BYTES:
            run()
        while waiting and len(waiting[0].poses) == len(waiting[0].boxes):
            yield waiting.popleft().done(crop.info.num_keypoints)
    run()
    for entry in waiting:
        yield entry.done(crop.info.num_keypoints)


def _numbered(sources: Iterable[Source]) -> Iterator[Numbered]:
    for number, source in enumerate(sources):
        for frame in source.frames():
            yield number, frame


def _read_ahead(frames: Iterator[Numbered], most: int) -> Iterator[Numbered]:
    """The same, up to `most` decoded early by a thread; OpenCV leaves Python's lock meanwhile."""
    pool = ThreadPoolExecutor(1, 'read-ahead')
    ahead = deque([pool.submit(next, frames, None)])
    try:
        while (numbered := ahead.popleft().result()) is not None:
            image = numbered[1].image
            size = image.nbytes if image is not None else _AHEAD_BYTES
            for _ in range(len(ahead), max(1, min(most, _AHEAD_BYTES // size))):
                ahead.append(pool.submit(next, frames, None))
            yield numbered
    finally:
        pool.shutdown(cancel_futures=True)


class _Waiting:
    """A frame whose persons are not all predicted yet."""

    def __init__(self, frame: Frame, boxes: np.ndarray, box_scores: np.ndarray) -> None:
        self.frame, self.boxes, self.box_scores = frame, boxes, box_scores
        self.poses: list[tuple[np.ndarray, np.ndarray]] = []

    def done(self, num_keypoints: int) -> tuple[Frame, PoseResult]:
        keypoints = np.zeros((len(self.poses), num_keypoints, 2), np.float32)
        scores = np.zeros((len(self.poses), num_keypoints), np.float32)
        for i, pose in enumerate(self.poses):
            keypoints[i], scores[i] = pose
        frame = self.frame
        return frame, PoseResult(
            frame.source.name,
            frame.size,
            self.boxes,
            self.box_scores,
            keypoints,
            scores,
            frame=frame.number,
            error=str(frame.error or ''),
        )
