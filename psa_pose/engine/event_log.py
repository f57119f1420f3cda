"""TensorBoard's curves, which a file system that fails costs points, and never the run."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch.loggers import TensorBoardLogger

_excepthook = threading.excepthook


def _quiet(args: threading.ExceptHookArgs) -> None:
    """No traceback of the writer's thread: its error is raised where the next point is logged."""
    name = type(args.thread).__name__
    if name != '_AsyncWriterThread' or not isinstance(args.exc_value, OSError):
        _excepthook(args)


threading.excepthook = _quiet


class EventLog(TensorBoardLogger):
    """Writes as Lightning's own does, and goes on without where that cannot be.

    Its writer's thread ends at the first error. So another one is tried at the next point, with a
    file of its own, which TensorBoard shows as the same curve.
    """

    failed = False
    """Whether points are being lost."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self._losing_points():
            super().log_metrics(metrics, step)
            self.failed = False

    def save(self) -> None:
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
