"""One picture: several people in front of a backdrop, with what can be seen of each of them."""

from dataclasses import dataclass

import cv2
import numpy as np

from psa_pose.datasets.synthetic.backdrop import cast_shadow, develop, paint_backdrop
from psa_pose.datasets.synthetic.body import KEYPOINT_NAMES
from psa_pose.datasets.synthetic.figure import STRIDE, Figure, sample_figure
from psa_pose.datasets.synthetic.wardrobe import Part

COUNT_SHARES = (0.28, 0.40, 0.22, 0.10)  # of images with 1, 2, 3 and 4 people
STATURES = (80, 205)  # pixels of standing height in an image 240 high
PLACEMENT_TRIES = 8
MIN_VISIBLE = 0.6  # share of a person's silhouette that those in front must leave visible
MIN_KEYPOINTS = 8  # labelled ones a person must have


def _parts_showing(name: str) -> list[Part]:
    """The parts of the body on whose surface a keypoint can be seen."""
    side, _, joint = name.upper().partition('_')
    if joint in ('', 'EYE', 'EAR'):
        return [Part.HEAD]
    shared = {
        'SHOULDER': [Part.TRUNK], 'HIP': [Part.PELVIS, Part.TRUNK], 'KNEE': [Part.PELVIS],
    }  # fmt: skip
    limbs = {
        'SHOULDER': ['UPPER_ARM'], 'ELBOW': ['UPPER_ARM', 'FOREARM'], 'WRIST': ['FOREARM'],
        'HIP': ['THIGH'], 'KNEE': ['THIGH', 'SHIN'], 'ANKLE': ['SHIN'],
    }  # fmt: skip
    return shared.get(joint, []) + [Part[f'{side}_{limb}'] for limb in limbs[joint]]


_SHOWN_BY = np.zeros((len(KEYPOINT_NAMES), STRIDE), bool)
for _row, _name in zip(_SHOWN_BY, KEYPOINT_NAMES, strict=True):
    _row[_parts_showing(_name)] = True


@dataclass(frozen=True)
class Person:
    """A figure, the image point (2,) of its hips, and its silhouette's area in the image."""

    figure: Figure
    offset: np.ndarray
    area: int


def render_image(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, list[dict]]:
    """Renders an image of `size` (width, height) and annotates everybody in it.

    Returns the image, (height, width, 3) uint8 BGR, and a list of COCO annotations less their ids.
    """
    width, height = size
    horizon = height * rng.uniform(0.3, 0.55)
    elevation, light = rng.uniform(0, 15), rng.uniform(0.3, 0.7) * rng.choice((-1, 1))
    image = paint_backdrop(rng, width, height, horizon)
    labels = np.zeros((height, width), np.uint8)
    people: list[Person] = []
    count = 1 + int(rng.choice(len(COUNT_SHARES), p=COUNT_SHARES))
    smallest, tallest = np.log(STATURES) + np.log(height / 240)
    statures = np.exp(rng.uniform(smallest, tallest, count))
    for stature in np.sort(statures):  # the taller, the nearer
        figure = sample_figure(rng, stature, elevation, light)
        labels = _add_person(rng, figure, image, labels, people, horizon)
    annotations = [_annotate(labels, number, person) for number, person in enumerate(people, 1)]
    return develop(rng, image), annotations


def _add_person(
    rng: np.random.Generator,
    figure: Figure,
    image: np.ndarray,
    labels: np.ndarray,
    people: list[Person],
    horizon: float,
) -> np.ndarray:
    """Paints a figure, if there is a place where it hides nobody too much, and lists the person.

    Returns the new label map; `image` and `people` are changed in place.
    """
    number = len(people) + 1
    for _ in range(PLACEMENT_TRIES):
        offset = _propose_place(rng, figure, image.shape, people, horizon)
        proposal = labels.copy()
        figure.paint_labels(proposal, offset, number)
        person = Person(figure, offset, int(np.count_nonzero(proposal // STRIDE == number)))
        if _all_recognisable(proposal, [*people, person]):
            people.append(person)
            _, lowest = figure.bounds()
            if not figure.airborne:
                cast_shadow(image, (offset[0], offset[1] + lowest[1]), 0.2 * figure.stature)
            figure.paint(image, offset)
            return proposal
    return labels


def _propose_place(
    rng: np.random.Generator, figure: Figure, shape, people: list[Person], horizon: float
) -> np.ndarray:
    """An image point for the hips: feet on the ground, mostly inside, often next to someone."""
    height, width = shape[:2]
    low, high = figure.bounds()
    overshoot = 0.15 * (high - low)
    if people and rng.random() < 0.45:
        neighbour = people[rng.integers(len(people))]
        x = neighbour.offset[0] + rng.choice((-1, 1)) * rng.uniform(0.15, 0.45) * figure.stature
    else:
        x = rng.uniform(-low[0], width - high[0])
    ground = horizon + figure.stature * rng.uniform(0.55, 0.85)
    y = ground - high[1] - figure.airborne * rng.uniform(0.05, 0.25) * figure.stature
    place = np.array([x, y])  # kept so that at most 15 % of the figure leaves the image
    most = np.array([width, height]) - 1 - high + overshoot
    return np.maximum(np.minimum(place, most), -low - 0.5 * overshoot)


def _all_recognisable(labels: np.ndarray, people: list[Person]) -> bool:
    """Whether enough is seen of everybody's silhouette and keypoints."""
    areas = np.bincount(labels.ravel() // STRIDE, minlength=len(people) + 1)[1:]
    return all(
        area >= MIN_VISIBLE * person.area
        and np.count_nonzero(keypoint_flags(labels, number, person)) >= MIN_KEYPOINTS
        for number, (area, person) in enumerate(zip(areas, people, strict=True), 1)
    )


def keypoint_flags(labels: np.ndarray, number: int, person: Person) -> np.ndarray:
    """COCO's flags, (17,): 0 not labelled, 1 labelled but hidden, 2 visible."""
    points = person.figure.keypoints + person.offset
    limits = np.array(labels.shape[::-1]) - 1
    inside = ((points >= 0) & (points <= limits)).all(axis=1)
    columns, rows = np.rint(points.clip(0, limits)).astype(int).T
    owner, part = np.divmod(labels[rows, columns], STRIDE)
    shown = (owner == number) & _SHOWN_BY[np.arange(len(part)), part] & ~person.figure.averted
    return np.where(inside & ~person.figure.unlabelled, 1 + shown, 0)


def _annotate(labels: np.ndarray, number: int, person: Person) -> dict:
    """A COCO annotation, less its ids; the box covers whole pixels."""
    visible = (labels // STRIDE == number).astype(np.uint8)
    flags = keypoint_flags(labels, number, person)
    points = np.round(person.figure.keypoints + person.offset, 2) * (flags > 0)[:, None]
    return {
        'category_id': 1,
        'iscrowd': 0,
        'bbox': list(cv2.boundingRect(visible)),
        'area': int(np.count_nonzero(visible)),
        'num_keypoints': int(np.count_nonzero(flags)),
        'keypoints': np.column_stack([points, flags]).ravel().tolist(),
    }
