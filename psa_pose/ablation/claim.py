"""One process works at a cell, of all that share the study's folder, on any machine.

Claims of a cell are numbered files. The newest holds until its owner gives it back, or is known to
be gone, or has not touched it for `PATIENCE` seconds. Whoever then creates the next number has it:
a file system grants that to one alone (NFS, too). Nothing is ever removed, so nobody can take away
what another has just taken. Ages are by the file system's own clock, for those of machines differ.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psa_pose.files import write_json

HEARTBEAT = 15.0  # seconds
PATIENCE = 120.0


@contextmanager
def claimed(folder: Path) -> Iterator[threading.Event | None]:
    """Claim the cell of this folder, and give it back at the end.

    Yields:
        None where another works at it. Else an event that is set when another has taken it over:
        this process was away (suspended, or its file system was) for longer than `PATIENCE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = _take(folder)
    if number is None:
        yield None
        return
    lost, stop = threading.Event(), threading.Event()
    beat = threading.Thread(target=_keep, args=(folder, number, lost, stop), daemon=True)
    beat.start()
    try:
        yield lost
    finally:
        stop.set()
        beat.join()
        with suppress(OSError):  # then it is taken over when it is old enough
            write_json(_path(folder, number), {**_self(), 'given back': True})


def _path(folder: Path, number: int) -> Path:
    return folder / f'claim-{number}.json'


def _take(folder: Path) -> int | None:
    """The number of a new claim; None where the newest holds, or another was faster."""
    numbers = [int(path.stem.partition('-')[2]) for path in folder.glob('claim-*.json')]
    newest = max(numbers, default=0)
    if newest and not _free(_path(folder, newest)):
        return None
    try:
        with _path(folder, newest + 1).open('x') as file:
            json.dump(_self(), file)
    except FileExistsError:
        return None
    return newest + 1


def _free(path: Path) -> bool:
    """Whether a claim no longer holds."""
    try:
        who = json.loads(path.read_text())
    except ValueError:
        who = {}  # just being written, or its owner died at that
    if who.get('given back'):
        return True
    if 'machine' in who and who['machine'] == _machine() and not _alive(who['pid']):
        return True
    now = path.with_name(f'.now-{secrets.token_hex(4)}')
    now.touch()
    try:
        return now.stat().st_mtime - path.stat().st_mtime > PATIENCE
    finally:
        now.unlink()


def _self() -> dict[str, object]:
    return {'host': socket.gethostname(), 'pid': os.getpid(), 'machine': _machine()}


def _machine() -> str:
    """Equal for two processes only if the one sees the other's number: containers share names."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # Linux has both
        parts.append(Path('/proc/sys/kernel/random/boot_id').read_text().strip())
        parts.append(os.readlink('/proc/self/ns/pid'))
    return ' '.join(parts)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, but alive
    return True


def _keep(folder: Path, number: int, lost: threading.Event, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        with suppress(OSError):  # a file system that is away for a moment
            if _path(folder, number + 1).exists():
                lost.set()
                return
            os.utime(_path(folder, number))
