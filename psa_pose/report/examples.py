"""Pictures of persons, ground truth beside prediction, small enough to lie within a page."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from psa_pose.datasets.transforms import read_image
from psa_pose.errors import DataError
from psa_pose.report.html import Html, tag
from psa_pose.report.persons import Persons
from psa_pose.visualization.worst import person_panel

EACH = 4  # of the best, the typical and the worst
_QUALITY = 80  # of JPEG


def chosen(persons: Persons, each: int = EACH) -> dict[str, list[int]]:
    """The best, the typical (about the median) and the worst of those that were found.

    Only persons with half of their keypoints labelled: what few can say is chance.
    """
    enough = persons.labelled.sum(1) >= persons.info.num_keypoints / 2
    usable = np.flatnonzero(persons.found & enough)
    if len(usable) < 3 * each:
        usable = np.flatnonzero(persons.found)
    order = usable[np.argsort(-persons.quality[usable], kind='stable')].tolist()
    each = min(each, max(1, len(order) // 3))
    middle = (len(order) - each) // 2
    return {
        'Best': order[:each],
        'Typical': order[middle : middle + each],
        'Worst': order[::-1][:each],
    }


def picture(persons: Persons, person: int, image_root: Path, title: str = '') -> Html:
    """A figure of one person; where the image is gone, of its poses alone, and it says so."""
    name, gone = persons.image[person], ''
    try:
        image = _read(image_root, name)
    except DataError as error:
        image, gone = _blank(persons, person), str(error)
    points = persons.points[person] if persons.found[person] else None
    truth, box = (persons.keypoints[person], persons.labelled[person]), persons.bbox[person]
    panel = person_panel(image, persons.info, truth, box, points, persons.errors[person])
    what = f'{persons.describe(person)}: {name}, person {persons.id[person]}'
    return tag(
        'figure',
        tag(
            'img',
            src=_data_uri(panel),
            alt=f'Ground truth beside prediction, {what}',
            width=panel.shape[1],
            height=panel.shape[0],
        ),
        tag(
            'figcaption',
            tag('b', title, ': ') if title else None,
            what,
            tag('div', wrong) if (wrong := persons.wrong(person)) else None,
            tag('span', f' ({gone})', class_='missing') if gone else None,
        ),
        class_='example',
    )


def gallery(figures: Sequence[Html], same: bool = False) -> Html:
    """Figures beside each other, as many as there is room for; `same`: all of one person."""
    return tag('div', *figures, class_='gallery same' if same else 'gallery')


def _read(root: Path, name: str) -> np.ndarray:
    parts = name.replace('\\', '/').split('/')
    if not name or name.startswith(('/', '\\')) or '..' in parts or ':' in parts[0]:
        raise DataError(f'the name {name!r} leads out of the image folder')
    if '\0' in name:
        raise DataError(f'the name {name!r} has a NUL character')
    return read_image(root / name)


def _blank(persons: Persons, person: int) -> np.ndarray:
    x, y, width, height = persons.bbox[person]
    reach = persons.keypoints[person].max(0)
    size = np.ceil(np.maximum(reach, (x + width, y + height)) + 20).clip(40, 4000).astype(int)
    return np.full((size[1], size[0], 3), 205, np.uint8)


def _data_uri(image: np.ndarray) -> str:
    done, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()
