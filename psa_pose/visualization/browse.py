"""Persons as training or evaluation sees them: image, augmented crop, target."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from psa_pose.codecs import HeatmapCodec
from psa_pose.datasets import CocoStyleDataset, TopdownDataset
from psa_pose.datasets.json_stream import members
from psa_pose.datasets.sampling import SampleKey
from psa_pose.datasets.transforms import read_image
from psa_pose.structures import PoseBatch
from psa_pose.visualization.overlay import INK, PAPER, write
from psa_pose.visualization.person import HEIGHT, Cell, Zoom, heatmap, pose
from psa_pose.visualization.skeleton import draw_pose

_GREY = (160, 160, 160)
LeftOut = Mapping[int, Sequence[tuple[np.ndarray, str]]]


def data_cells(
    dataset: TopdownDataset,
    codec: HeatmapCodec,
    key: SampleKey,
    sample: PoseBatch,
    left_out: LeftOut,
    zoom: Zoom,
) -> list[Cell]:
    """A person's image, its crop with the labelled keypoints, and the target over the crop.

    Args:
        dataset: of the person.
        codec: makes the target.
        key: of the person in it.
        sample: `dataset[key]`.
        left_out: see `find_left_out`.
        zoom: of the crops.
    """
    index, names = key.person, dataset.info.names
    title = (
        f'person {index}: {dataset.persons.file_name[index].decode()}, '
        f'annotation {dataset.persons.id[index]}'
    )
    if not sample.usable:
        grey = zoom.image(np.full_like(sample.crop, 128))
        return [Cell(f'{title}\nskipped: its image cannot be read', grey)]
    keypoints, labelled = np.asarray(sample.keypoints), np.asarray(sample.visible) > 0
    crop = np.asarray(sample.crop)
    targets, weights = (
        x[0].numpy()
        for x in codec.encode(
            torch.from_numpy(keypoints)[None], torch.from_numpy(np.asarray(sample.visible))[None]
        )
    )
    inside = weights > 0
    words = [_augmentation(dataset, index, np.asarray(sample.to_image))]
    for which, text in ((~labelled, 'unlabelled'), (labelled & ~inside, 'outside the crop')):
        if which.all():
            words.append('no keypoint is labelled' if text == 'unlabelled' else f'all {text}')
        elif which.any():
            words.append(f'{text}: {", ".join(names[k] for k in np.flatnonzero(which))}')
    maps = targets[:: codec.channels_per_keypoint][inside] if inside.any() else targets[:1] * 0
    return [
        Cell(title, _image(dataset, index, np.asarray(sample.to_image), left_out)),
        Cell('\n'.join(words), pose(crop, keypoints, labelled, dataset.info, zoom)),
        Cell(f'target: {inside.sum()} of {len(names)}', heatmap(crop, maps, codec, zoom)),
    ]


def find_left_out(dataset: TopdownDataset, indices: Sequence[int]) -> LeftOut:
    """Annotated persons of some persons' images whom the dataset does not use.

    Returns:
        By image id, boxes (4,) x, y, width, height, and why: 'crowd', 'no labels' (of keypoints) or
        'box outside'. Nothing where the boxes are a detector's or the file is not COCO's.
    """
    found: dict[int, list[tuple[np.ndarray, str]]] = {}
    if not isinstance(dataset, CocoStyleDataset) or dataset.bbox_file:
        return found
    images = set(dataset.image_ids[list(indices)].tolist())
    used = set(dataset.persons.id[np.isin(dataset.image_ids, list(images))].tolist())
    for name, entries in members(dataset.ann_file):
        if name != 'annotations':
            continue
        for entry in entries:
            person = entry.get('category_id') == dataset.category_id
            if person and entry.get('image_id') in images and entry['id'] not in used:
                box = np.asarray(entry.get('bbox') or [0] * 4, float)
                found.setdefault(entry['image_id'], []).append((box, _why(entry)))
    return found


def _why(entry: Mapping[str, Any]) -> str:
    if entry.get('iscrowd'):
        return 'crowd'
    return 'box outside' if any((entry.get('keypoints') or [])[2::3]) else 'no labels'


def _augmentation(dataset: TopdownDataset, index: int, to_image: np.ndarray) -> str:
    """What was done to a person's crop, read from where it lies in the image."""
    (a, b), (c, d) = to_image[:, :2]
    mirrored = a * d - b * c < 0
    angle = np.degrees(np.arctan2(c, -a if mirrored else a))
    width = dataset.crop_scale(index)[0]
    intervals = dataset.input_size[0] - (1 if dataset.unbiased_affine else 0)
    scale = np.hypot(a, c) * intervals / width
    words = ['mirrored'] if mirrored else []
    words += [f'turned by {angle:.0f} degrees'] if abs(angle) >= 0.5 else []
    words += [f'{scale:.2f} x its box'] if abs(scale - 1) >= 0.005 else []
    return ', '.join(words) or 'as it is'


def _image(
    dataset: TopdownDataset, index: int, to_image: np.ndarray, left_out: LeftOut
) -> np.ndarray:
    """The whole image: the person's skeleton and crop, and who else is in it."""
    persons = dataset.persons
    image = read_image(dataset.image_root / persons.file_name[index].decode())
    zoom = HEIGHT / image.shape[0]
    image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)

    def placed(points: np.ndarray) -> np.ndarray:
        return (points.astype(float) + 0.5) * zoom - 0.5

    number = persons.image_id[index]
    for other in np.flatnonzero((persons.image_id == number) & (np.arange(len(persons)) != index)):
        _outline(image, _corners(placed(persons.bbox[other].reshape(2, 2))), PAPER, 1)
    for (x, y, width, height), why in left_out.get(int(number), ()):
        corners = placed(np.array([[x, y], [x + width, y + height]]))
        _outline(image, _corners(corners), _GREY, 1)
        x, y = corners[0].clip(2, np.array(image.shape[1::-1]) - 14).astype(int).tolist()
        write(image, why, (x, y + 12), PAPER, INK, scale=0.33)
    keypoints = persons.keypoints[index]
    x1, y1, x2, y2 = persons.bbox[index]
    size = zoom * float(max(x2 - x1, y2 - y1))
    drawn, hidden = keypoints[:, 2] > 0, keypoints[:, 2] == 1
    draw_pose(image, placed(keypoints[:, :2]), drawn, dataset.info, size, hidden)
    width, height = dataset.input_size
    corners = _corners(np.array([[0.0, 0], [width - 1, height - 1]]))
    _outline(image, placed(corners @ to_image[:, :2].T + to_image[:, 2]), (255, 220, 0), 2)
    return image


def _corners(box: np.ndarray) -> np.ndarray:
    """(4, 2) of a box (2, 2), two opposite corners."""
    (x1, y1), (x2, y2) = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _outline(image: np.ndarray, corners: np.ndarray, color: tuple, thickness: int) -> None:
    points = [np.round(corners).astype(np.int32)]
    cv2.polylines(image, points, True, INK, thickness + 2, cv2.LINE_AA)
    cv2.polylines(image, points, True, color, thickness, cv2.LINE_AA)
