"""Boxes from a JSON file: by file name, a detector's results, or an annotation file's."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets import json_stream
from psa_pose.datasets.detections import describe, read_detections
from psa_pose.datasets.persons import Persons, usable_persons
from psa_pose.errors import DataError
from psa_pose.inference.boxes import BoxSource, Found, read_boxes
from psa_pose.inference.frames import Frame, Source
from psa_pose.inference.image_table import ImageNames, ImageTable


def box_file(path: Path, box_thr: float = 0.0, ann_file: Path | None = None) -> BoxSource:
    """Boxes of image files.

    Args:
        path: a JSON of one of three kinds. `{"a/1.jpg": [[x1, y1, x2, y2, score], ...]}`, the score
            at will; COCO's result format, a list of `image_id`, `category_id`, `bbox` and `score`;
            or annotations in COCO's format, whose usable persons have the ground truth's boxes.
        box_thr: boxes with a score above are used.
        ann_file: COCO-style JSON that says which image a result file's `image_id` is.

    Raises:
        DataError: the file cannot be used; says why.
    """
    try:
        content = json_stream.whole(path)
    except (OSError, ValueError, RecursionError) as error:
        text = error.strerror if isinstance(error, OSError) else f'is not JSON: {error}'
        raise DataError(f'boxes {path}: {text}') from None
    if isinstance(content, dict):
        if 'images' not in content:
            return NamedBoxes(path, content, box_thr)
        content.clear()  # it is read once more, and checked
        return _annotated(path)
    if not isinstance(content, list):
        raise DataError(f'boxes {path}: expected a list or an object, found {str(content)[:40]}')
    if ann_file is None:
        raise DataError(
            f"boxes {path} are in COCO's result format, by image id: which image has which id says "
            'the annotation file they belong to (ann_file, --ann FILE)'
        )
    table = ImageTable(ann_file)
    found = read_detections(path, table.content, ann_file, table.category_id, 1, box_thr)
    left_out = f'; left out: {describe(found.skipped)}' if found.skipped else ''
    return KnownBoxes(table, found.persons, f'{found.source}{left_out}')


def _annotated(path: Path) -> BoxSource:
    table = ImageTable(path)
    if 'annotations' not in table.content:
        raise DataError(f'boxes {path}: images without annotations, and so without boxes')
    persons = usable_persons(table.content, path)
    return KnownBoxes(table, persons, f'ground truth, {len(persons)} persons of {path.name}')


class NamedBoxes(BoxSource):
    """Rows by the name of their image."""

    def __init__(self, path: Path, boxes: Mapping[str, Any], box_thr: float) -> None:
        self.path, self.boxes, self.box_thr = path, boxes, box_thr
        self.names = ImageNames(boxes, path)
        self.text = f'{path.name}, {len(boxes)} images'

    def check(self, sources: Iterable[Source]) -> None:
        """Every image has a name in the file."""
        if isinstance(sources, list):
            for source in sources:
                self.names.find(source)

    def __call__(self, frame: Frame, number: int) -> Found:
        """Rows of the image's name."""
        name = self.names.find(frame.source)
        return read_boxes(self.boxes[name], frame, f'{self.path}: {name}', self.box_thr)


class KnownBoxes(BoxSource):
    """Boxes of persons that the readers of annotations and detections have checked."""

    def __init__(self, table: ImageTable, persons: Persons, text: str) -> None:
        self.table, self.persons, self.text = table, persons, text
        table.content.clear()  # of all annotations nothing more is needed
        self._rows: dict[int, list[int]] = defaultdict(list)
        for row, image_id in enumerate(persons.image_id.tolist()):
            self._rows[image_id].append(row)

    def check(self, sources: Iterable[Source]) -> None:
        """Every image is one of the table's."""
        if isinstance(sources, list):
            for source in sources:
                self.table.names.find(source)

    def __call__(self, frame: Frame, number: int) -> Found:
        """In the order of their file."""
        rows = np.array(self._rows.get(self.table.image_id(frame), []), int)
        return self.persons.bbox[rows], self.persons.box_score[rows]
