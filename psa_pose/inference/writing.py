"""Results as files: pictures, videos, JSON; each whole or not at all."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import cv2
import numpy as np

from psa_pose.errors import ConfigError
from psa_pose.files import write_bytes
from psa_pose.inference.frames import Frame, Source
from psa_pose.inference.result import PoseResult
from psa_pose.structures import KeypointInfo
from psa_pose.visualization import draw_pose
from psa_pose.visualization.overlay import encoded

if TYPE_CHECKING:
    from typing_extensions import Self

_AS_THEY_ARE = {'.jpg', '.jpeg', '.png'}


def draw_result(
    image: np.ndarray, result: PoseResult, info: KeypointInfo, score_thr: float
) -> np.ndarray:
    """A copy of an image with all persons of its result.

    Args:
        image: (H, W, 3) uint8, RGB.
        result: of the image.
        info: names and skeleton.
        score_thr: keypoints with a lower score are not drawn.
    """
    image = image.copy()
    for keypoints, scores, box in zip(result.keypoints, result.scores, result.boxes, strict=True):
        size = float(max(box[2:] - box[:2]))
        draw_pose(image, keypoints, scores > score_thr, info, min(size, max(image.shape)))
    return image


def output_files(sources: Sequence[Source], folder: Path) -> dict[Source, Path]:
    """Where each source's picture or video goes: as the sources lie to one another.

    Raises:
        ConfigError: a source would be overwritten, or a file that lies among the sources.
    """
    paths = {s: Path(os.path.abspath(s.path)) for s in sources if s.path}  # without any '..'
    folders = [path.parent for path in paths.values()]
    root = Path(os.path.commonpath(folders)) if folders else Path()
    read = {path.resolve() for path in paths.values()}
    among = any(folder.resolve() in path.parents for path in read)
    files: dict[Source, Path] = {}
    taken: set[Path] = set()
    for source in sources:
        plain = source.name.replace(' ', '-').replace(':', '-')
        inside = paths[source].relative_to(root) if source in paths else Path(plain)
        if source.fps:
            inside = inside.with_suffix('.mp4')
        elif inside.suffix.lower() not in _AS_THEY_ARE:
            inside = inside.with_name(f'{inside.name}.jpg')
        file, number = folder / inside, 1
        while file in taken:
            number += 1
            file = folder / inside.with_stem(f'{inside.stem}-{number}')
        if file.resolve() in read:
            raise ConfigError(f'--out {folder}: {file} is an input, and would be overwritten')
        if among and file.exists():  # a file of the user's, as likely as not
            raise ConfigError(
                f'--out {folder}: {file} is there already, in a folder of inputs, and would be '
                'overwritten: name a folder of its own'
            )
        taken.add(file)
        files[source] = file
    return files


class _Writer:
    """Finishes its files at the end, also where a person ends it; an error discards the last."""

    def __enter__(self) -> 'Self':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close(keep=kind is None or kind is KeyboardInterrupt)

    def close(self, keep: bool) -> None:
        """Finish, or discard what is not whole."""


class PictureWriter(_Writer):
    """Pictures of images, and a video of each video with its frame rate and size.

    Args:
        files: from `output_files`.
        info: names and skeleton.
        score_thr: see `draw_result`.

    Attributes:
        pictures: how many were written.
        videos: files, with their frames.
    """

    def __init__(self, files: dict[Source, Path], info: KeypointInfo, score_thr: float) -> None:
        self.files, self.info, self.score_thr = files, info, score_thr
        self.pictures = 0
        self.videos: dict[Path, int] = {}
        self._video: tuple[Source, cv2.VideoWriter, Path] | None = None

    def write(self, frame: Frame, result: PoseResult) -> None:
        """Add a frame's picture; a frame that could not be read has none."""
        if frame.image is None:
            return
        drawn = draw_result(frame.image, result, self.info, self.score_thr)
        file = self.files[frame.source]
        if frame.source.fps is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, encoded(drawn, file.suffix.lower(), quality=95))
            self.pictures += 1
            return
        if self._video is None or self._video[0] is not frame.source:
            self.close(keep=True)
            self._open(frame, file)
        assert self._video is not None
        self._video[1].write(np.ascontiguousarray(drawn[..., ::-1]))
        self.videos[file] += 1

    def close(self, keep: bool) -> None:
        """Finish the video under way."""
        if self._video is None:
            return
        source, writer, partial = self._video
        self._video = None
        writer.release()
        file = self.files[source]
        if not keep:
            partial.unlink(missing_ok=True)
            return
        capture = cv2.VideoCapture(str(partial))  # a full disk is not reported otherwise
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if frames != self.videos[file]:
            partial.unlink(missing_ok=True)
            raise OSError(
                f'cannot write {file}: of {self.videos[file]} frames {max(frames, 0)} were kept; '
                'is the disk full?'
            )
        os.replace(partial, file)

    def _open(self, frame: Frame, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f'{file.stem}.partial{file.suffix}')
        code = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(partial), code, frame.source.fps or 0, frame.size)
        if not writer.isOpened():
            raise OSError(f'cannot write {file}: this OpenCV encodes no MPEG-4 video there')
        self._video, self.videos[file] = (frame.source, writer, partial), 0


class JsonWriter(_Writer):
    """A list in COCO's result format, written as it grows.

    Entries also have `file_name`, and of videos `frame` and, where persons are followed, `track`.

    Args:
        file: to write.
        image_id: of a frame; None counts frames from 1.
        category_id: of persons.
    """

    def __init__(
        self, file: Path, image_id: Callable[[Frame], int] | None = None, category_id: int = 1
    ) -> None:
        self.file, self._image_id, self._category_id = file, image_id, category_id
        self._partial = file.with_name(f'{file.name}.partial')
        self._frames = 0
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = self._partial.open('w')
        self._separator = '[\n'

    def write(self, frame: Frame, result: PoseResult) -> None:
        """Add a frame's persons."""
        self._frames += 1
        if not len(result):
            return
        number = self._image_id(frame) if self._image_id else self._frames
        for i, entry in enumerate(result.to_coco(number, self._category_id)):
            entry['file_name'] = result.source
            if result.frame is not None:
                entry['frame'] = result.frame
            if result.tracks is not None:
                entry['track'] = int(result.tracks[i])
            self._stream.write(f'{self._separator}{json.dumps(entry)}')
            self._separator = ',\n'

    def close(self, keep: bool) -> None:
        """Finish the file."""
        if keep:
            self._stream.write('[]\n' if self._separator == '[\n' else '\n]\n')
        self._stream.close()
        if keep:
            os.replace(self._partial, self.file)
        else:
            self._partial.unlink(missing_ok=True)
