"""Archives: checked, and unpacked so that a stop at any moment leaves no half file."""

import gzip
import hashlib
import lzma
import os
import shlex
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from psa_pose.errors import DataError

Place = Callable[[PurePosixPath], str | None]
"""Where a member goes, relative to the dataset's root; None leaves it out."""

_CHUNK = 1 << 20
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile),
    *(zlib.error, lzma.LZMAError, EOFError),
)


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        name: of its file.
        url: where it is published.
        place: where its members go.
        size: in bytes, where it is known for certain.
        md5: likewise.
    """

    name: str
    url: str
    place: Place
    size: int | None = None
    md5: str | None = None


def digests(path: Path) -> dict[str, Any]:
    """Size, MD5 and SHA-256 of a file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    return {'size': path.stat().st_size, 'md5': md5.hexdigest(), 'sha256': sha256.hexdigest()}


def verify(path: Path, archive: Archive) -> dict[str, Any]:
    """Compare a file with what is published of it; returns its digests.

    Raises:
        DataError: another size or checksum.
    """
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        raise DataError(
            f'{path} has {size} bytes, the published one {archive.size}: cut off, or another file? '
            f'{"Complete it with" if size < archive.size else "Delete it, then"}: '
            f'{curl(archive.url, path)} (--unverified takes an archive of your own making)'
        )
    found = digests(path)
    if archive.md5 is not None and found['md5'] != archive.md5:
        raise DataError(
            f'{path} has MD5 {found["md5"]}, the published one {archive.md5}. Delete it, then: '
            f'{curl(archive.url, path)} (--unverified takes an archive of your own making)'
        )
    return found


def curl(url: str, path: Path) -> str:
    """The command that fetches a file, going on where an earlier one stopped."""
    return f'curl -L --create-dirs -C - -o {shlex.quote(str(path))} {url}'


def unpack(path: Path, root: Path, place: Place) -> tuple[int, int]:
    """Unpack what `place` wants and what is not there yet in its full size.

    A member is written under another name, checked (size, and the CRC that zip carries) and then
    renamed; gzip's CRC, which stands at the end of all, is checked before.

    Returns:
        How many files were written, and how many were already there.

    Raises:
        DataError: a broken archive, a member that would land outside `root` or is a link (which
            could point there) or a device, or no room on disk.
    """
    if not (zipfile.is_zipfile(path) or path.name.endswith(('.tar', '.tar.gz', '.tgz'))):
        raise DataError(f'{path} is no zip or tar archive: cut off, or another file?')
    try:
        members = _zip_members if zipfile.is_zipfile(path) else _tar_members
        return _write_all(members(path), path, root, place)
    except _BROKEN as error:
        raise DataError(f'{path} is broken: {error or type(error).__name__}') from None
    except RuntimeError as error:  # zipfile's: encrypted, or packed in a way of its own
        raise DataError(f'{path} cannot be read: {error}') from None
    except OSError as error:
        raise DataError(f'cannot unpack {path} to {root}: {error}') from None


Member = tuple[str, int, Callable[[], IO[bytes]] | None]
"""Name, size, and what opens it: None for what is not a regular file."""


def _write_all(members: Iterator[Member], path: Path, root: Path, place: Place) -> tuple[int, int]:
    written = kept = 0
    for name, size, opened in members:
        relative = place(_safe(name, path))
        if relative is None:
            continue
        if opened is None:
            raise DataError(f"{path}: '{name}' is a link or device: pack the file itself")
        target = root / relative
        if target.is_file() and target.stat().st_size == size:
            kept += 1
            continue
        with whole_file(target) as file, opened() as source:
            shutil.copyfileobj(source, file, _CHUNK)
            if file.tell() != size:
                raise DataError(f'{path}: {name} has {file.tell()} bytes, expected {size}')
        written += 1
    return written, kept


@contextmanager
def whole_file(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name once it is complete, and not at all after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.partial')  # after a kill, the next run's
    try:
        with partial.open('wb') as file:
            yield file
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _safe(name: str, path: Path) -> PurePosixPath:
    member = PurePosixPath(name)
    if member.is_absolute() or '..' in member.parts or '\\' in name or ':' in name:
        raise DataError(f"{path}: member '{name}' would be written outside the dataset's folder")
    return member


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not packed on Unix
            regular = kind in (0, stat.S_IFREG)
            if not info.is_dir():
                opened = partial(archive.open, info) if regular else None
                yield info.filename, info.file_size, opened


def _tar_members(path: Path) -> Iterator[Member]:
    with path.open('rb') as raw:
        compressed = raw.read(2) == b'\x1f\x8b'
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        while compressed and stream.read(_CHUNK):  # to the end, where the checksum is
            pass
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode='r:') as archive:
            for info in archive:
                opened = partial(_open_member, archive, info) if info.isfile() else None
                if not info.isdir():
                    yield info.name, info.size, opened


def _open_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None, 'a regular file'
    return stream
