"""Reading COCO-style JSON files, whole or only what makes persons."""

import marshal
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psa_pose.datasets.json_stream import members, whole
from psa_pose.datasets.persons import IMAGE_FIELDS, Persons, keypoint_category, usable_persons
from psa_pose.errors import DataError
from psa_pose.structures import KeypointInfo


@dataclass(frozen=True)
class Annotations:
    """What a file says.

    Attributes:
        info: of its keypoints.
        category_id: of persons.
        persons: those that can be used.
    """

    info: KeypointInfo
    category_id: int
    persons: Persons


LISTS = ('images', 'annotations', 'categories')
_ANNOTATION_FIELDS = ('id', 'image_id', 'category_id', 'iscrowd', 'keypoints', 'bbox')


def read_json(path: Path, lists: Sequence[str] = LISTS) -> dict[str, Any]:
    """Read a COCO-style JSON file, all of it.

    Args:
        path: the file.
        lists: what it must have.

    Raises:
        DataError: missing, not JSON, without one of `lists`, or an id that occurs twice.
    """
    try:
        content = whole(path)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    _check_lists(content, path, lists)
    for key in ('images', 'annotations'):
        if key in content:
            _check_lists(content, path, (key,))
            for _ in _unique(content[key], f'annotation file {path}: {key}'):
                pass
    return content


def read_annotations(path: Path) -> Annotations:
    """Read the persons of a file in a fraction of the memory that `read_json` takes.

    Raises:
        DataError: see `read_json` and `usable_persons`.
    """
    content = _read_lean(path)
    _check_lists(content, path, ('images', 'categories'))
    if 'annotations' not in content:
        raise DataError(
            f'annotation file {path} has no annotations, and so no boxes of persons: '
            "a detector's are needed (--boxes FILE, in a config the dataset's bbox_file)"
        )
    _check_lists(content, path, LISTS)
    category = keypoint_category(content, path)
    info = KeypointInfo.from_category(category, str(path))
    return Annotations(info, category['id'], usable_persons(content, path))


def read_keypoint_info(path: Path) -> KeypointInfo:
    """Names, skeleton and sigmas of an annotation file's category."""
    content = _read_lean(path)
    _check_lists(content, path, LISTS)
    return KeypointInfo.from_category(keypoint_category(content, path), str(path))


class _Packed:
    """Annotations as bytes: the categories come last in COCO's files, so all must wait for them.

    One block, for many small ones would leave the process' memory in pieces.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self.data, self.starts = bytearray(), array('q')
        for entry in entries:
            self.starts.append(len(self.data))
            self.data += marshal.dumps([entry.get(key) for key in _ANNOTATION_FIELDS])

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        data = memoryview(self.data)
        for start in self.starts:
            yield dict(zip(_ANNOTATION_FIELDS, marshal.loads(data[start:]), strict=True))


def _read_lean(path: Path) -> dict[str, Any]:
    """What of a file makes persons."""
    content: dict[str, Any] = {}
    try:
        for key, entries in members(path):
            if not isinstance(entries, Iterator):
                content[key] = entries
                continue
            unique = _unique(entries, f'annotation file {path}: {key}')
            if key == 'images':
                content[key] = [{k: i[k] for k in IMAGE_FIELDS if k in i} for i in unique]
            elif key == 'annotations':
                content[key] = _Packed(unique)
            elif key == 'categories':
                content[key] = list(entries)
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    return content


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of an annotation file that `json_stream` could not read."""
    if isinstance(error, OSError):
        return DataError(f'annotation file {path}: {error.strerror}')
    return DataError(f'annotation file {path} is not JSON: {error}')


def _check_lists(content: Any, path: Path, lists: Sequence[str]) -> None:
    for key in lists:
        if not isinstance(content, dict) or not isinstance(content.get(key), list | _Packed):
            raise DataError(f"annotation file {path} has no list '{key}': not in COCO's format")


def _unique(entries: Iterable[Any], where: str) -> Iterator[Mapping[str, Any]]:
    """The entries; of two with one id, an evaluation would see one in both places."""
    seen: set[int] = set()
    for entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f'{where}: an entry that is no object: {entry}')
        number = entry.get('id')
        if isinstance(number, list | dict):
            raise DataError(f"{where}: a whole number is expected as 'id', got {str(number)[:80]}")
        if isinstance(number, int):
            if number in seen:
                raise DataError(f'{where}: id {number} occurs twice')
            seen.add(number)
        yield entry
