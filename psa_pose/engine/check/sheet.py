"""An annotation file as it is, right or wrong: readers for runs stop at the first thing wrong."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets.annotations import unreadable
from psa_pose.datasets.json_stream import members
from psa_pose.datasets.persons import LARGEST, keypoint_category, person_category
from psa_pose.engine.check.findings import some
from psa_pose.errors import DataError

NO_IMAGE = 'an image_id that is not among the images'


@dataclass
class Sheet:
    """I images and P persons of a file: its crowds and other categories are counted alone.

    Attributes:
        path: of the file.
        category: of persons, an entry of `categories`.
        image_id: of the images; None where there is none.
        image_size: (I, 2) width and height; 0 where unknown.
        image_name: of their files.
        id: (P,) of the persons' annotations.
        image: (P,) row of the person's image.
        bbox: (P, 4) x, y, width, height; NaN where there is none.
        area: (P,), NaN where there is none.
        keypoints: (P, K, 3) x, y and COCO's v.
        others: how many annotations are no person's, by reason.
        wrong: entries that a run would stop at, by their list and what is wrong, see `faults`.
    """

    path: Path
    category: Mapping[str, Any]
    image_id: list[Any]
    image_size: np.ndarray
    image_name: list[str]
    id: np.ndarray
    image: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    keypoints: np.ndarray
    others: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """What is `wrong`, with counts and a few places."""
        texts = []
        for reason, places in self.wrong.items():
            kind, _, what = reason.partition(': ')
            texts.append(f'{kind}: {len(places)} with {what} ({some(places)})')
        return texts

    @property
    def labelled(self) -> np.ndarray:
        """(P, K) bool."""
        return np.asarray(self.keypoints[..., 2] > 0)

    @property
    def labelled_images(self) -> np.ndarray:
        """Rows of the images that show a person with labels, rising."""
        return np.unique(self.image[self.labelled.any(1)])

    @property
    def persons_size(self) -> np.ndarray:
        """(P, 2) width and height of the persons' images."""
        return self.image_size[self.image]


def read_sheet(path: Path) -> Sheet:
    """Read a COCO-style JSON, entry by entry.

    Raises:
        DataError: it is none: nothing can be said of its entries.
    """
    sheet: dict[str, Any] = {}
    wrong: dict[str, list[str]] = {}
    rows = _Rows(wrong)
    try:
        for key, entries in members(path):
            if key == 'images' and isinstance(entries, Iterator):
                sheet[key] = _read_images(entries, wrong)
            elif key == 'annotations' and isinstance(entries, Iterator):
                sheet[key] = sum(1 for _ in map(rows.add, entries))
            elif key == 'categories' and isinstance(entries, Iterator):
                sheet[key] = list(entries)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    for key in ('images', 'categories'):
        if key not in sheet:
            raise DataError(f"annotation file {path} has no list '{key}': not in COCO's format")
    category = person_category(sheet, path)
    if 'annotations' in sheet:  # 'person' without keypoints is enough where there are none
        category = keypoint_category(sheet, path)
    return rows.sheet(path, category, *sheet['images'])


def _read_images(
    entries: Iterator[Any], wrong: dict[str, list[str]]
) -> tuple[list[Any], list[tuple[float, float]], list[str]]:
    """Ids, sizes and file names."""
    ids: list[Any] = []
    sizes: list[tuple[float, float]] = []
    names: list[str] = []
    seen: set[Any] = set()
    for place, entry in enumerate(entries):
        image = entry if isinstance(entry, dict) else {}
        number, name = image.get('id'), image.get('file_name')
        size: Any = image.get('width'), image.get('height')
        if not isinstance(number, int) or not isinstance(name, str):
            wrong.setdefault('images: no id or file_name', []).append(f'place {place}')
            continue
        if number in seen:
            wrong.setdefault('images: an id that another has', []).append(str(number))
        seen.add(number)
        if not all(isinstance(side, int | float) and 0 < side < 2**31 for side in size):
            wrong.setdefault('images: no width or height', []).append(str(number))
            size = (0, 0)
        ids.append(number)
        sizes.append(size)
        names.append(name)
    return ids, sizes, names


class _Rows:
    """Annotations as flat columns: K is not known before the categories, which come last."""

    def __init__(self, wrong: dict[str, list[str]]) -> None:
        self.wrong = wrong
        self.seen: set[int] = set()
        self.columns: list[tuple[int, Any, Any, bool, int]] = []
        self.boxes, self.areas, self.keypoints = array('d'), array('d'), array('f')

    def add(self, entry: Any) -> None:
        """Take an entry of `annotations`."""
        if not isinstance(entry, dict) or not isinstance(entry.get('id'), int):
            self._wrong('no id', f'place {len(self.columns)}')
            return
        number = entry['id']
        if number in self.seen:
            self._wrong('an id that another has', number)
        self.seen.add(number)
        points = _numbers('f', entry.get('keypoints'))
        if points is None:
            self._wrong('keypoints that are no list of finite numbers', number)
            points = array('f')
        box, area = _numbers('d', entry.get('bbox')), entry.get('area')
        if box is None or len(box) not in (0, 4):
            self._wrong('a bbox that is not four finite numbers', number)
            box = None
        self.boxes.extend(box if box else (np.nan,) * 4)
        usable = isinstance(area, int | float) and abs(area) < LARGEST
        self.areas.append(area if usable else np.nan)  # type: ignore[arg-type]
        crowd = bool(entry.get('iscrowd'))
        category, image = entry.get('category_id'), entry.get('image_id')
        self.columns.append((number, image, category, crowd, len(points)))
        self.keypoints.extend(points)

    def sheet(
        self,
        path: Path,
        category: Mapping[str, Any],
        image_id: list[Any],
        sizes: list[tuple[float, float]],
        names: list[str],
    ) -> Sheet:
        listed = category.get('keypoints')
        k = len(listed) if isinstance(listed, list) else 0
        row_of = {number: row for row, number in enumerate(image_id)}
        rows, starts, images, start = [], [], [], 0
        others = {'of other categories': 0, 'crowds': 0}
        for row, (number, image, kind, crowd, length) in enumerate(self.columns):
            begin, start = start, start + length
            place = row_of.get(image) if isinstance(image, int) else None
            if kind != category['id'] or crowd:
                others['crowds' if kind == category['id'] else 'of other categories'] += 1
            elif place is None:
                self._wrong(NO_IMAGE, number)
            elif length not in (0, 3 * k):
                self._wrong(f'{length} keypoint numbers instead of 3 x {k}', number)
            else:
                rows.append(row)
                starts.append(begin if length else -1)
                images.append(place)
        keypoints = np.zeros((len(rows), 3 * k), np.float32)
        if starts and k:
            there = np.array(starts) >= 0
            flat = np.frombuffer(self.keypoints, np.float32) if len(self.keypoints) else np.zeros(0)
            keypoints[there] = flat[np.array(starts)[there][:, None] + np.arange(3 * k)]
        picked = np.array(rows, np.int64)
        return Sheet(
            path,
            category,
            image_id,
            np.array(sizes, float).reshape(-1, 2),
            names,
            np.array([self.columns[row][0] for row in rows]),
            np.array(images, np.int64),
            np.array(self.boxes).reshape(-1, 4)[picked],
            np.array(self.areas)[picked],
            keypoints.reshape(len(rows), k, 3),
            {reason: count for reason, count in others.items() if count},
            self.wrong,
        )

    def _wrong(self, what: str, number: Any) -> None:
        self.wrong.setdefault(f'annotations: {what}', []).append(str(number))


def _numbers(kind: str, values: Any) -> 'array[float] | None':
    """Finite numbers, none for None; None where `values` are something else."""
    if values is None:
        return array(kind)
    try:
        numbers = array(kind, values) if isinstance(values, list) else None
    except (TypeError, OverflowError):
        return None
    return numbers if numbers is not None and isfinite(sum(map(abs, numbers))) else None
