"""How long a device has nothing to do, for want of a batch."""

import time
from collections import deque

import torch


class DataWait:
    """Adds up the time from the end of a step's work to the next batch.

    On a GPU the host runs ahead: its own wait for a batch costs nothing while the device still
    works at what was queued. There the time between two events counts, the first of which comes
    when all that was queued before the wait is done. Nothing waits for an event.

    Attributes:
        since: when the host began to wait, in seconds of `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.since = 0.0
        self._seconds = 0.0
        self._done: torch.cuda.Event | None = None
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def begin(self, device: torch.device) -> None:
        """The host asks for a batch; of two calls the later counts."""
        self.since = time.perf_counter()
        self._done = _event() if device.type == 'cuda' else None

    def end(self) -> None:
        """The batch is there, on the device too."""
        if self._done is None:
            self._seconds += time.perf_counter() - self.since
            return
        self._events.append((self._done, _event()))
        self._settle()

    def take(self) -> float:
        """Seconds since the last call; those of waits that the device has not come to yet later."""
        self._settle()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _settle(self) -> None:
        while self._events and self._events[0][1].query():
            done, come = self._events.popleft()
            self._seconds += done.elapsed_time(come) / 1e3


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
