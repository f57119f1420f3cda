"""The scalars of TensorBoard's event files.

TensorBoard's own reader takes seconds for a long run and keeps a sample of it; this one takes what
is there. A file is a row of records, each a length, its checksum, a protobuf message, its checksum.
"""

import struct
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

_LARGEST = 1 << 16  # bytes of a record with scalars; pictures are larger


class Curve(NamedTuple):
    """A scalar over a run's steps."""

    steps: np.ndarray
    """(N,) rising, from 1: optimizer steps done."""
    values: np.ndarray
    """(N,)."""
    times: np.ndarray
    """(N,) seconds since 1970."""
    lost: int = 0
    """Points that were no finite numbers, and are left out."""


def read_curves(folder: Path, since: float = 0) -> dict[str, Curve]:
    """All scalars below a folder, by tag; what a resumed run replaced is left out.

    A file that is cut off gives what it has, one that cannot be read nothing.

    Args:
        folder: `tensorboard` of a work dir.
        since: seconds since 1970; what is older is another run's, which was in this folder before.
    """
    points: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for path in sorted(folder.glob('events.out.tfevents.*'), key=_started):
        try:
            _read(path, points)
        except OSError:
            continue
    curves = {}
    for tag, rows in points.items():
        latest = {row[0]: row for row in rows if row[2] >= since}  # of two of a step the later
        table = np.array([latest[step] for step in sorted(latest)], float).reshape(-1, 3)
        finite = np.isfinite(table[:, 1])
        steps, values, times = table[finite].T
        if len(steps):
            curves[tag] = Curve(steps.astype(int) + 1, values, times, int((~finite).sum()))
    return curves


def _started(path: Path) -> tuple[float, str]:
    """Event files carry the second of their start in their name."""
    part = path.name.split('.')[3:4]
    return (float(part[0]) if part and part[0].isdigit() else 0.0), path.name


def _read(path: Path, points: dict[str, list[tuple[int, float, float]]]) -> None:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    with path.open('rb') as file:
        while len(header := file.read(12)) == 12:
            (size,) = struct.unpack('<Q', header[:8])
            if size > _LARGEST:
                file.seek(size + 4, 1)
                continue
            data = file.read(size + 4)
            if len(data) < size + 4:
                return  # still being written, or cut off
            try:
                event = Event.FromString(data[:-4])
            except DecodeError:
                return
            if event.session_log.status == SessionLog.START and event.step:
                for rows in points.values():  # the run went on from here
                    rows[:] = [row for row in rows if row[0] < event.step]
            for value in event.summary.value:
                if value.WhichOneof('value') == 'simple_value':
                    points[value.tag].append((event.step, value.simple_value, event.wall_time))
