"""TensorBoard's curves, which a file system that fails costs points, and never the run."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from psa_pose.visualization.overlay import encoded


class EventLog(TensorBoardLogger):
    """Writes as Lightning's own does, and goes on without where that cannot be.

    Its writer's thread ends at the first error. So another one is tried at the next point, with a
    file of its own, which TensorBoard shows as the same curve.
    """

    failed = False
    """Whether points are being lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(threading.excepthook, _QuietWriter):
            threading.excepthook = _QuietWriter(threading.excepthook)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.failed and not Path(self.root_dir).is_dir():
            return  # not to be made anew: the file system that it is on is not there
        with self._losing_points():
            super().log_metrics(metrics, step)
            self.failed = False

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Pictures (H, W, 3) uint8, RGB, as JPEGs; PyTorch's PNGs would be many times as large."""
        if self.failed and not Path(self.root_dir).is_dir():
            return
        values = []
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            data = encoded(image, '.jpg')
            content = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=data
            )
            values.append(Summary.Value(tag=f'{key}/{i}' if i else key, image=content))
        with self._losing_points():
            self.experiment._get_file_writer().add_summary(Summary(value=values), step)
            self.failed = False

    def save(self) -> None:
        if not self.failed:
            with self._losing_points():
                super().save()

    def finalize(self, status: str) -> None:
        with self._losing_points():
            super().finalize(status)

    @contextmanager
    def _losing_points(self) -> Iterator[None]:
        before = self._experiment
        try:
            yield
        except (OSError, ValueError) as error:  # Lightning's takes any for one of the value
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or not (before or self.failed):
                raise  # what fails from the start is to be mended
            if not self.failed:
                print(
                    f'warning: cannot write to {self.log_dir}: {cause.strerror or cause}; points '
                    'of the curves are lost until it can be written',
                    file=sys.stderr,
                    flush=True,
                )
            self.failed, self._experiment = True, None
            self._kwargs.pop('purge_step', None)  # was for what came before this run


class _QuietWriter:
    """No traceback of the writer's thread: its error is raised where the next point is logged."""

    def __init__(self, before: Callable[[threading.ExceptHookArgs], Any]) -> None:
        self.before = before

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        name = type(args.thread).__name__
        if name != '_AsyncWriterThread' or not isinstance(args.exc_value, OSError):
            self.before(args)
