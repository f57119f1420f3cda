"""Annotations as a file that is mapped into memory: read in no time, and shared by all processes.

Ranks and workers of a machine, forked or spawned, see the same pages. The file stands beside the
annotations or, where nothing can be written there, in the user's cache folder; it may be deleted
whenever no run is using it. Its name holds a hash of the annotations, so one of other annotations
is never taken, and a checksum tells a damaged one, which is made anew.
"""

import hashlib
import json
import mmap
import os
import secrets
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from psa_pose.datasets.annotations import Annotations, Persons
from psa_pose.errors import DataError
from psa_pose.structures import KeypointInfo

FORMAT = 1  # to be raised whenever the same annotations would give other arrays
MIN_SIZE = 16 << 20  # bytes; smaller files are read in well under a second
VARIABLE = 'PSA_POSE_CACHE'
_MAGIC = b'psa_pose annotations '
_ALIGN = 64


@dataclass(frozen=True)
class MappedPersons(Persons):
    """Persons whose arrays lie in a file; pickled, as for a spawned worker, they are its name."""

    file: Path

    def __reduce__(self) -> tuple[Callable[[Path], Persons], tuple[Path]]:
        return _reopen, (self.file,)


def cached(ann_file: Path, read: Callable[[Path], Annotations]) -> Annotations:
    """What `read(ann_file)` gives, mapped from a file wherever that can be had.

    The environment's `PSA_POSE_CACHE` names a folder to use instead, or is `off`.
    """
    folders = _folders(ann_file)
    try:
        digest = _digest(ann_file) if folders and ann_file.stat().st_size >= MIN_SIZE else None
    except OSError:
        digest = None  # `read` says what is wrong
    if digest is None:
        return read(ann_file)
    paths = [folder / f'{ann_file.name}.{digest}.psa_pose' for folder in folders]
    for path in paths:
        if (found := _open(path)) is not None:
            return found
    made = read(ann_file)
    with suppress(OSError):
        if _digest(ann_file) != digest:  # written to meanwhile
            return made
    for path in paths:
        with suppress(OSError):  # read-only, full, not ours
            _publish(path, made)
            if (found := _open(path)) is not None:
                return found
    return made


def _folders(ann_file: Path) -> list[Path]:
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return [] if chosen == 'off' else [Path(chosen)]
    home = os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser()
    return [ann_file.parent, Path(home, 'psa_pose')]


def _digest(path: Path) -> str:
    """Of the content: times and sizes may stay the same where it changes."""
    digest = hashlib.blake2b(str(FORMAT).encode(), digest_size=12)
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _publish(path: Path, content: Annotations) -> None:
    """Write the file whole or not at all; of several processes the first one's stays.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{secrets.token_hex(4)}.partial')
    try:
        with partial.open('xb') as file:
            _write(file, content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except OSError:  # there is one, or the file system has no links
            # To replace a good one would end processes of other machines that have it mapped.
            if _open(path) is None:
                os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write(file: BinaryIO, content: Annotations) -> None:
    """A line with a checksum of the rest, a line of JSON, then the arrays."""
    columns, arrays, offset = {}, [], 0
    for field in fields(Persons):
        values = np.ascontiguousarray(getattr(content.persons, field.name))
        columns[field.name] = (values.dtype.str, values.shape, offset)
        data = values.tobytes()
        arrays.append(data + bytes(-len(data) % _ALIGN))
        offset += len(arrays[-1])
    header = {'info': asdict(content.info), 'category_id': content.category_id, 'columns': columns}
    text = json.dumps(header).encode()
    start = len(_MAGIC) + 9 + len(text) + 1
    rest = [text + b' ' * (-start % _ALIGN) + b'\n', *arrays]
    checksum = 0
    for part in rest:
        checksum = zlib.crc32(part, checksum)
    file.write(_MAGIC + f'{checksum:08x}\n'.encode())
    file.writelines(rest)


def _open(path: Path) -> Annotations | None:
    """Map the file; None where there is none or it is damaged."""
    try:
        with path.open('rb') as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        body = len(_MAGIC) + 9
        checksum = f'{zlib.crc32(memoryview(data)[body:]):08x}\n'.encode()
        if data[:body] != _MAGIC + checksum:
            return None
        start = data.find(b'\n', body) + 1
        header = json.loads(data[body:start])
    except (OSError, ValueError):
        return None
    arrays = {}
    for name, (dtype, shape, offset) in header['columns'].items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, dtype, count, start + offset).reshape(shape)
    info = header['info']
    return Annotations(
        KeypointInfo(
            tuple(info['names']),
            tuple((a, b) for a, b in info['skeleton']),
            tuple(info['sigmas']),
            info['sigmas_source'],
        ),
        header['category_id'],
        MappedPersons(**arrays, file=path),
    )


def _reopen(path: Path) -> Persons:
    found = _open(path)
    if found is None:
        raise DataError(f'{path} was deleted or damaged while in use: start again')
    return found.persons
