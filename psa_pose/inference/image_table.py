"""Which image of an annotation file is an image file: by the end of its path."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from psa_pose.datasets.annotations import read_json
from psa_pose.datasets.persons import check_image, person_category
from psa_pose.errors import DataError, nearest
from psa_pose.inference.frames import Frame, Source


class ImageNames:
    """Names of images, and the files that they mean.

    `a/1.jpg` is a file whose path ends in `a/1.jpg`; of several such names the longest.

    Args:
        names: as a file gives them.
        path: that file, for errors.
    """

    def __init__(self, names: Iterable[str], path: Path) -> None:
        self.path = path
        self._by_last: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        self._names: dict[tuple[str, ...], str] = {}
        for name in names:
            parts = PurePosixPath(name.replace('\\', '/')).parts or ('',)
            self._names[parts] = name
            self._by_last[parts[-1]].append(parts)

    def find(self, source: Source) -> str:
        """The name of a source.

        Raises:
            DataError: there is none.
        """
        if source.path is None or source.fps:
            raise DataError(f'{self.path} is about image files, and {source.name} is none')
        whole = Path(os.path.abspath(source.path)).parts
        fitting = [p for p in self._by_last.get(whole[-1], ()) if whole[-len(p) :] == p]
        if not fitting:
            hint = nearest(whole[-1], self._by_last)[:200]
            raise DataError(f'{self.path} has no image {source.name}; {hint}')
        return self._names[max(fitting, key=len)]


class ImageTable:
    """The `images` of a COCO-style JSON.

    Attributes:
        content: of the file.

    Raises:
        DataError: the file cannot be read, or an image lacks a field.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = read_json(path, lists=('images', 'categories'))
        self._categories = {'categories': self.content['categories']}
        self._images = {}
        for image in self.content['images']:
            check_image(image, f'{path}: image')
            self._images[image['file_name']] = image
        self.names = ImageNames(self._images, path)

    @property
    def category_id(self) -> int:
        """Of persons.

        Raises:
            DataError: no category is theirs.
        """
        return int(person_category(self._categories, self.path)['id'])

    def image_id(self, frame: Frame) -> int:
        """Of a frame's image.

        Raises:
            DataError: there is no such image, or it has another size.
        """
        name = self.names.find(frame.source)
        image = self._images[name]
        size = int(image['width']), int(image['height'])
        if frame.size not in ((0, 0), size):
            raise DataError(
                f'image {frame.source.name} is {frame.size[0]}x{frame.size[1]} pixels, but {name} '
                f'in {self.path} has {size[0]}x{size[1]}'
            )
        return image['id']
