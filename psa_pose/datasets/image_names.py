"""File names of images as annotation files give them: inside the image root, or refused.

Symbolic links are followed wherever they lead: they are the user's own, an annotation file cannot
make one, and large datasets are put together of them.
"""

from pathlib import Path

import numpy as np

from psa_pose.datasets.persons import Persons
from psa_pose.errors import DataError

_AT_ONCE = 4096  # persons: a rank's share of a mapped file should not become memory of its own


def check_image_names(persons: Persons, ann_file: Path, root: Path) -> None:
    """Refuse names that are empty, absolute, or have a part '..'; milliseconds for all of COCO.

    A backslash separates as well, and a drive is a root, lest a file be safe on one system alone.

    Raises:
        DataError: names the image id and the person's.
    """
    for start in range(0, len(persons), _AT_ONCE):
        for reason, bad in unsafe(persons.file_name[start : start + _AT_ONCE]).items():
            if bad.any():
                i = start + int(np.flatnonzero(bad)[0])
                raise DataError(
                    f'{ann_file}: image id {persons.image_id[i]} (person id {persons.id[i]}): its '
                    f'file name {persons.file_name[i].decode(errors="replace")!r} {reason}; names '
                    f'are relative to the image root {root} and stay inside it'
                )


def unsafe(file_name: np.ndarray) -> dict[str, np.ndarray]:
    """For each reason which of the names (N,), fixed-width bytes, it is about."""
    length = file_name.dtype.itemsize
    names = np.ascontiguousarray(file_name).view(np.uint8).reshape(-1, length)
    text = np.zeros((length + 3, len(names)), np.uint8)  # a row is one byte of every name
    text[0], text[1:-2] = ord('/'), names.T
    is_dot, ends = text == ord('.'), (text == ord('/')) | (text == ord('\\')) | (text == 0)
    return {
        "has a part '..'": (ends[:-3] & is_dot[1:-2] & is_dot[2:-1] & ends[3:]).any(0),
        'is empty or absolute': ends[1] | (text[2] == ord(':')),
        'has a NUL character': ((text[1:-1] == 0) & (text[2:] != 0)).any(0),
    }
