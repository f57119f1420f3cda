"""Writes rendered images the way COCO is stored: a folder of JPEGs and one JSON per split."""

from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from psa_pose.datasets.synthetic.scene import render_image
from psa_pose.files import write_json
from psa_pose.structures import COCO_KEYPOINTS

JPEG_QUALITY = 90

PERSON_CATEGORY = {
    'id': 1,
    'name': 'person',
    'supercategory': 'person',
    'keypoints': COCO_KEYPOINTS.names,
    'skeleton': [(a + 1, b + 1) for a, b in COCO_KEYPOINTS.skeleton],
    'sigmas': COCO_KEYPOINTS.sigmas,
}


def annotation_file(root: Path, split: str) -> Path:
    """Where `render_dataset` writes the annotations of a split."""
    return Path(root, 'annotations', f'person_keypoints_{split}.json')


def render_dataset(
    root: Path, split: str, num_images: int, seed: int, image_size: tuple[int, int] = (320, 240)
) -> Path:
    """Renders a split of `num_images` images of `image_size` (width, height) pixels.

    Writes `root/images/<split>/<id>.jpg` and `root/annotations/person_keypoints_<split>.json`, and
    returns the latter's path. Every image has a random stream of its own, so it depends on the
    seed, the split's name and its index only. The JSON comes last and at once: an interrupted run
    leaves none.
    """
    folder = Path(root, 'images', split)
    target = annotation_file(root, split)
    for directory in (folder, target.parent):
        directory.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)

    width, height = image_size
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(num_images):
        rng = np.random.default_rng([seed, crc32(split.encode()), index])
        pixels, people = render_image(rng, image_size)
        number, name = index + 1, f'{index + 1:06d}.jpg'
        _write_jpeg(folder / name, pixels)
        images.append({'id': number, 'file_name': name, 'width': width, 'height': height})
        for person in people:
            annotations.append({'id': len(annotations) + 1, 'image_id': number, **person})

    content = {
        'info': {'description': f'Rendered people, split {split}, seed {seed}'},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [PERSON_CATEGORY],
    }
    write_json(target, content, indent=None)
    return target


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    _, encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    path.write_bytes(encoded.tobytes())
