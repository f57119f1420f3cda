"""Errors meant for the person who wrote the config or the data, not for a debugger.

The command line prints their message alone; any other exception keeps its traceback: it is a bug.
"""

import difflib
import signal
from collections.abc import Collection


class PSAPoseError(Exception):
    """Base of every error whose message alone tells a user what to mend."""


class ConfigError(PSAPoseError, ValueError):
    """A config names something that does not exist or does not fit; says the config path."""


class DataError(PSAPoseError, ValueError):
    """A file or an annotation cannot be used; says which one."""


class CheckpointError(PSAPoseError, ValueError):
    """A checkpoint cannot be read or does not fit the model; says what differs."""


class ResultError(PSAPoseError, ValueError):
    """Predictions that cannot be evaluated: empty, or not about the ground truth at hand."""


class TrainingError(PSAPoseError, RuntimeError):
    """Training cannot go on; says since when, on which images, and which checkpoint is good."""


class ExportError(PSAPoseError, RuntimeError):
    """A model cannot be written for use elsewhere, or what was written is not the same model."""


class LaunchError(PSAPoseError, RuntimeError):
    """The processes of a run do not come together; says which of them, and where."""


class WorkerError(PSAPoseError, RuntimeError):
    """A worker process of a loader died, hangs or has no memory to work in; says what to do.

    Attributes:
        signal: that killed it from outside, where one did.
    """

    def __init__(self, message: str, signal: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal


def nearest(name: str, candidates: Collection[str]) -> str:
    """A hint naming the candidate most like `name`, or all of them where none is near."""
    spelling = {candidate.lower(): candidate for candidate in candidates}
    match = difflib.get_close_matches(name.lower(), spelling, n=1, cutoff=0.6)
    if match:
        return f"did you mean '{spelling[match[0]]}'?"
    return f'choose one of: {", ".join(sorted(candidates))}' if spelling else 'none is known'


def signal_name(number: int) -> str:
    """'SIGTERM', or 'signal 35' for one without a name, as real-time signals mostly are."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'
