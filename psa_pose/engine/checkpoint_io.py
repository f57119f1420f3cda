"""Writing a file of a run's state: whole or not at all, with its checksum, on a full disk too."""

import errno
import io
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from psa_pose.engine.resume import kept, seal
from psa_pose.errors import CheckpointError

SAVE_ERROR_POLICIES = ('stop', 'continue')
PASSING = {
    number
    for name in ('EIO', 'ENOENT', 'ENOTCONN', 'ESTALE', 'ETIMEDOUT')
    if (number := getattr(errno, name, None))
}
"""What a shared file system says while its server restarts or its mount comes back."""
PATIENCE, PAUSE = 60.0, 2.0
"""Seconds for which a file that met with one of those is tried again, and between two tries."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is there whole or not at all.

    Lightning's own goes through the system's temporary folder: from another file system it is
    copied over the old file, and whoever is killed then has neither. Its checksum is in the file.

    Args:
        on_error: what a file that cannot be written does, a full disk above all. 'stop' ends the
            run: better now, with hours to repeat, than at its end with nothing kept. 'continue'
            says so and tries again at the next checkpoint. Older ones stay in either case. What
            may pass by itself (`PASSING`) is tried again before.
    """

    def __init__(self, on_error: str = 'stop') -> None:
        self.on_error = on_error
        self.failed = False  # the latest attempt

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        error = _write_patiently(checkpoint, path)
        self.failed = error is not None
        if error is None:
            return
        message = f'{_failure(path, error)}{_room(path.parent)}'
        if self.on_error == 'stop':
            raise CheckpointError(f'{message}; {_last_good(path.parent)}') from error
        _warn(f'{message}; training goes on without it')

    def remove_checkpoint(self, path: Any) -> None:
        if not self.failed:  # or the one that was to take its place is not there
            try:
                super().remove_checkpoint(path)
            except OSError as error:
                _warn(f'cannot remove {path}: {error.strerror or error}')


def _write_patiently(checkpoint: dict[str, Any], path: Path) -> OSError | None:
    """Write a file; what the system says, if it cannot be. Meanwhile the other ranks wait."""
    start, said = time.monotonic(), False
    while True:
        try:
            _write(checkpoint, path)
            return None
        except Exception as error:
            # torch raises one of its own over the system's: a position that it did not expect.
            cause = next((e for e in _chain(error) if isinstance(e, OSError)), None)
            if cause is None:
                raise
            if cause.errno not in PASSING or time.monotonic() - start > PATIENCE:
                return cause
        if not said:
            _warn(f'{_failure(path, cause)}; trying again for {PATIENCE:.0f} s')
        said = True
        time.sleep(PAUSE)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    partial = path.with_name(f'{path.name}.partial')
    try:
        # Its parent has been there from the start: without it the mount is gone, and what would
        # be made now lies below the mount point, where nobody finds it again.
        path.parent.mkdir(exist_ok=True)
        with _SummedFile(partial.open('wb', buffering=0)) as file:
            torch.save(checkpoint, file)
            seal(file, file.checksum)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except Exception:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _failure(path: Path, error: OSError) -> str:
    return f'cannot write {path}: {error.strerror or error}'


def _warn(message: str) -> None:
    print(f'warning: {message}', file=sys.stderr, flush=True)


class _SummedFile(io.BufferedWriter):
    """A file that is written from its beginning to its end, with the CRC-32 of what was."""

    checksum = 0

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return super().write(data)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _room(folder: Path) -> str:
    with suppress(OSError):
        return f' ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)'
    return ''


def _last_good(folder: Path) -> str:
    if not folder.is_dir():
        return f'{folder} is not there'
    files = kept(folder)
    return f'the last good checkpoint is {files[0]}' if files else 'there is no checkpoint yet'
