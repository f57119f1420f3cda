"""Writing files so that they are never there in part."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name beside `path`, with its ending, to write to; afterwards that file takes its place.

    After an error the old file is as it was, and the new one is gone. The new one has the old one's
    mode. What is no file (a pipe, /dev/stdout) is written to itself; where `path` is a link, the
    file that it leads to is replaced. Of several writers of one file the last one's stays.
    """
    if is_device(path) or (path.exists() and not path.is_file()):
        yield path
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f'.{target.stem}.{secrets.token_hex(4)}.partial{path.suffix}')
    try:
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        os.replace(partial, target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)  # nobody knows the other name
        raise


def is_device(path: Path) -> bool:
    """Whether it is of the system and nothing is kept in it: /dev/stdout, /proc/self/fd/1.

    Where /dev/stdout leads to a file, it is one for Python too.
    """
    name = str(path.absolute())
    return name.startswith(('/dev/', '/proc/')) and not name.startswith('/dev/shm/')


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8; see `replaced`."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON; see `replaced`."""
    write_text(path, json.dumps(content, indent=indent) + '\n')


def write_bytes(path: Path, content: bytes) -> None:
    """See `replaced`."""
    with replaced(path) as partial:
        partial.write_bytes(content)
