"""Which checkpoint of a run to go on from: the newest that is whole."""

import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from psa_pose.errors import CheckpointError

SEAL = b'psa-pose crc32 '


def kept(folder: Path) -> list[Path]:
    """A run's checkpoints, the newest first; without the best one, which is no part of the row.

    `last.ckpt` counts where it is a file of its own, as in a copy that followed its link.
    """
    steps = {
        path: re.fullmatch(r'epoch=\d+_step=(\d+)', path.stem) for path in folder.glob('*.ckpt')
    }
    row = sorted((path for path in steps if steps[path]), key=lambda p: -int(steps[p][1]))  # type: ignore[index]
    last = folder / 'last.ckpt'
    return [last, *row] if last.is_file() and not last.is_symlink() else row


def newest_whole(folder: Path) -> tuple[Path, dict[Path, str]]:
    """The checkpoint to go on from, and what is wrong with those that are newer.

    Raises:
        CheckpointError: there is none, or none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in kept(folder):
        if (wrong := damage(path)) is None:
            return path, damaged
        damaged[path] = wrong
    if not damaged:
        raise CheckpointError(f'--resume: there is no checkpoint {folder / "last.ckpt"}')
    found = '; '.join(f'{path}: {wrong}' for path, wrong in damaged.items())
    best = [str(path) for path in sorted(folder.glob('best_*.ckpt'))]
    advice = f'; start a new run with --load-from {best[-1]}' if best else ''
    raise CheckpointError(f'--resume: no checkpoint is whole: {found}{advice}')


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file; None where its checksum is right.

    `torch.load` checks nothing: a flipped bit would be taken for a weight. A file without a
    checksum of its own (see `seal`) is held against those that zip archives have of their entries.
    """
    try:
        if not path.stat().st_size:
            return 'it is empty'
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
            sealed = comment.startswith(SEAL)
            wrong = None if sealed else archive.testzip()
        if sealed and comment != _seal(_checksum(path, len(comment) + 2)):
            return 'its checksum is wrong'
    except OSError as error:
        return f'it cannot be read ({error.strerror or error})'
    except Exception as error:  # what a damaged archive makes zipfile raise is not documented
        return f'it is cut off or overwritten ({error})'
    return f'the checksum of {wrong} is wrong' if wrong else None


def seal(file: BinaryIO, checksum: int) -> None:
    """Add a checksum of all its bytes to a zip archive, as the archive's comment.

    So it is in the file itself, which any `torch.load` reads as before.

    Args:
        file: just written by `torch.save`, without a comment.
        checksum: CRC-32 of what was written.
    """
    comment = _seal(checksum)
    file.seek(-2, os.SEEK_END)  # an archive ends with the length of its comment
    file.write(len(comment).to_bytes(2, 'little') + comment)


def _seal(checksum: int) -> bytes:
    return SEAL + b'%08x' % checksum


def _checksum(path: Path, end: int) -> int:
    """CRC-32 of an archive as if it had no comment, which with its length takes `end` bytes."""
    left, checksum = path.stat().st_size - end, 0
    with path.open('rb') as file:
        while left:
            chunk = file.read(min(left, 1 << 20))
            checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    return zlib.crc32(b'\0\0', checksum)
