"""How far it is: a bar on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PAUSE = 10.0  # seconds between lines


class FrameProgress:
    """Counts frames.

    Args:
        total: how many there will be, or 0 where nobody knows.
    """

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self._start = self._said = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]}'))
            self._bar = Progress(
                *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
            )
            self._task = self._bar.add_task('', total=total or None, rate='')

    def __enter__(self) -> 'FrameProgress':
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def rate(self) -> str:
        """Frames a second, for people."""
        return f'{self.count / max(time.monotonic() - self._start, 1e-9):.1f} images/s'

    def step(self) -> None:
        """One more."""
        self.count += 1
        if self._bar:
            self._bar.update(self._task, advance=1, rate=self.rate)
        elif time.monotonic() - self._said > _PAUSE:
            self._said = time.monotonic()
            of = f'/{self.total}' if self.total else ''
            print(f'image {self.count}{of}  {self.rate}', flush=True)
