"""Stopping a run by a signal: it saves at the next step and exits with 128 + the signal's number.

    SIGTERM 143 (a cluster's preemption), SIGINT 130 (Ctrl-C), SIGUSR1 138 (`sbatch --signal=USR1`)

A second signal exits at once, without saving, and so does the first one before any step is taken.
An evaluation under way is finished first: its epoch is saved after it.
Python's own KeyboardInterrupt could come up anywhere, within a step or where it is swallowed (a
`__del__`, a callback from C): here a handler only takes a note.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed

from psa_pose.engine.ranks import Ranks
from psa_pose.errors import WorkerError, signal_name

SIGNALS = [
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name)
]
SAME = 2.0
"""Seconds in which signals count as one under a launcher: torchrun hands on what the terminal has
already sent to all processes."""
LAUNCHED = 'PSA_POSE_LAUNCHER'
"""Environment variable, the number of the process that started this one: `psa-pose ablate`."""


class Stopped(BaseException):
    """Training ended at a signal, its checkpoint written."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopRequest:
    """Notes signals while it is entered, and lets all ranks stop at the same step."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.number = 0  # of the signal
        self.has_stepped = False
        self._since: float | None = None  # when this rank itself was told
        self._before: dict[int, Any] = {}
        self._asked: Any = None  # the ranks' question under way, and where its answer will stand
        self._answer = torch.zeros(1, dtype=torch.int64)

    def __enter__(self) -> 'StopRequest':
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            self._listen()
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _listen(self) -> None:
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:  # `nohup`, a shell's background
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and self._since is None:  # another rank was told first: all are stopping
            self._since = now
            return
        launched = self.ranks.several or LAUNCHED in os.environ
        if self._since is not None and launched and now - self._since < SAME:
            return
        if self.number or not self.has_stepped:
            how = 'at once' if self.number else 'before its first step'
            self._say(f'stopped by {signal_name(number)} {how}')
            self.ranks.stopped(f'was stopped by {signal_name(number)} {how}', 128 + number)
        self.number, self._since = number, now
        self._say(
            f'{signal_name(number)}: saving at the next step, then the run ends; '
            'a second signal ends it at once'
        )

    def start(self, trainer: L.Trainer) -> None:
        """Once Lightning has set itself up."""
        self._listen()  # Lightning has put a handler of its own over SIGTERM's
        # And asks the device at every batch whether rank 0 was stopped, and waits for it.
        loop = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def agreed(self) -> bool:
        """Whether to stop after this step; collective.

        Several ranks agree through host memory and a step late: nobody waits for a device.
        """
        if not self.ranks.several:
            return self.number != 0
        if self.finish():
            self.number = int(self._answer)
            return True
        self._answer = torch.full((1,), self.number)
        self._asked = distributed.all_reduce(
            self._answer, distributed.ReduceOp.MAX, self.ranks.control, async_op=True
        )
        return False

    def finish(self) -> bool:
        """Whether the question under way was answered with a signal."""
        if self._asked is None:
            return False
        self._asked.wait()
        self._asked = None
        return bool(self._answer)

    def exception(self) -> Stopped:
        return Stopped(self.number)

    def _say(self, line: str) -> None:
        """From a handler, where `print` may be in the middle of another line."""
        if self.ranks.first:
            os.write(2, f'\n{line}\n'.encode())


@contextmanager
def stopped_by_signals(ranks: Ranks, advice: str) -> Iterator[None]:
    """Turn a stop by a signal into a message and an exit status."""
    try:
        yield
    except Stopped as stop:
        ranks.parting = True
        _leave(stop.number, ranks, advice)
    except (SIGTERMException, WorkerError) as error:
        if isinstance(error, WorkerError) and error.signal != signal.SIGTERM:
            raise  # a scheduler sends SIGTERM to all processes, and the workers may be first
        _leave(signal.SIGTERM, ranks, advice)
    except (KeyboardInterrupt, SystemExit):  # Lightning's, in an evaluation
        _leave(signal.SIGINT, ranks, advice)


def _leave(number: int, ranks: Ranks, advice: str) -> None:
    name = signal_name(number)
    by = 'interrupted' if number == signal.SIGINT else f'stopped by {name}'
    if ranks.first:
        print(f'{by}{advice}', file=sys.stderr)
    if ranks.several and not ranks.parting:  # the others may know of nothing, and wait
        ranks.stopped(f'was {by}', 128 + number)
    raise SystemExit(128 + number) from None
