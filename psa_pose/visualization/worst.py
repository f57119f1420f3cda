"""The persons that a model gets most wrong, ground truth beside prediction, the errors named."""

from pathlib import Path

import cv2
import numpy as np

from psa_pose.datasets.annotations import read_annotations
from psa_pose.datasets.image_names import check_image_names
from psa_pose.datasets.transforms import read_image
from psa_pose.evaluation.diagnosis import Detections, GroundTruth, Options
from psa_pose.evaluation.diagnosis.kinds import JITTER, judge
from psa_pose.evaluation.diagnosis.matching import BACKGROUND, DUPLICATE, MATCHED, match
from psa_pose.evaluation.diagnosis.options import KEYPOINT_KINDS
from psa_pose.evaluation.diagnosis.scene import Scene
from psa_pose.structures import KeypointInfo
from psa_pose.visualization.overlay import INK, PAPER, write
from psa_pose.visualization.skeleton import FAR, draw_pose

_HEIGHT = 320  # of a panel, in pixels
_PADDING = 0.15  # of the larger side of what is shown, on every side


def worst_panels(
    truth: GroundTruth,
    detections: Detections,
    image_root: Path,
    count: int = 12,
    options: Options | None = None,
) -> list[tuple[str, np.ndarray]]:
    """Panels of the persons with the lowest OKS; those that nothing found have none and come first.

    Args:
        truth: from `read_ground_truth`.
        detections: from `read_results`.
        image_root: the folder that the images' names are relative to.
        count: how many persons at most.
        options: thresholds that name the errors.

    Returns:
        For each person, worst first, a caption and a picture (H, W, 3) uint8, RGB: ground truth at
        the left; at the right the prediction, a line from each keypoint that is no mere jitter to
        its right place, a cross. Of a person that was missed it is the nearest prediction that is
        nobody else's, if any.

    Raises:
        DataError: an image cannot be read, or its name leads out of the folder.
    """
    options = options or Options()
    scene = Scene.of(truth, detections)
    matches = match(scene.pairs, scene.oks, truth, options.match_oks)
    kinds = judge(scene.pairs, scene.points, truth, matches, options).kind
    own = scene.pairs.person == matches.person[scene.pairs.row]
    own &= matches.kind[scene.pairs.row] == MATCHED
    similarity = np.full(len(truth), -1.0)  # of the missed
    detection = np.full(len(truth), -1)
    similarity[scene.pairs.person[own]] = scene.oks[own]
    detection[scene.pairs.person[own]] = scene.pairs.row[own]
    order = np.lexsort((-truth.area, similarity))  # of the missed the largest first
    names = _image_names(truth, image_root)
    asked = ~truth.ignored & np.isin(truth.image_id, list(names))
    worst = order[asked[order]][:count].tolist()
    strays = np.isin(matches.kind, (BACKGROUND, DUPLICATE))
    panels = []
    for person in worst:
        name = names[int(truth.image_id[person])]
        row = int(detection[person])
        errors = kinds[row] if row >= 0 else np.zeros(truth.info.num_keypoints, int)
        caption = f'OKS {similarity[person]:.2f}' if row >= 0 else 'missed'
        caption += f'  {name}, annotation {truth.id[person]}'
        if row >= 0:
            caption += _named(errors, truth.info.names)
        else:
            row = _nearest(truth, person, detections, strays)
            pair = (scene.pairs.row == row) & (scene.pairs.person == person)
            caption += f'\nnearest prediction: OKS {scene.oks[pair][0]:.2f}' if row >= 0 else ''
        points = detections.keypoints[row] if row >= 0 else None
        image = read_image(image_root / name)
        own_truth = truth.keypoints[person], truth.labelled[person]
        panel = person_panel(image, truth.info, own_truth, truth.bbox[person], points, errors)
        panels.append((caption, panel))
    return panels


def _image_names(truth: GroundTruth, image_root: Path) -> dict[int, str]:
    """By image id; of images whose persons can be used, and safe to open."""
    persons = read_annotations(truth.path).persons
    check_image_names(persons, truth.path, image_root)
    names = (name.decode() for name in persons.file_name)
    return dict(zip(persons.image_id.tolist(), names, strict=True))


def _named(errors: np.ndarray, names: tuple[str, ...]) -> str:
    """A line for each kind of error, with its keypoints."""
    lines = []
    for kind, word in reversed([*enumerate(KEYPOINT_KINDS, JITTER)]):
        wrong = [names[k].replace('_', ' ') for k in np.flatnonzero(errors == kind)]
        if wrong:
            lines.append(f'\n{word}: {", ".join(wrong)}')
    return ''.join(lines)


def _nearest(truth: GroundTruth, person: int, detections: Detections, strays: np.ndarray) -> int:
    """The stray detection nearest to a person, or -1 where none is as near as it is large."""
    rows = np.flatnonzero(strays & (detections.image_id == truth.image_id[person]))
    seen = truth.labelled[person]
    offsets = detections.keypoints[rows][:, seen] - truth.keypoints[person, seen]
    distance = np.linalg.norm(offsets, axis=-1).mean(-1)
    near = len(rows) and distance.min() < truth.bbox[person, 2:].max()
    return int(rows[distance.argmin()]) if near else -1


def person_panel(
    image: np.ndarray,
    info: KeypointInfo,
    truth: tuple[np.ndarray, np.ndarray],
    bbox: np.ndarray,
    points: np.ndarray | None,
    errors: np.ndarray,
) -> np.ndarray:
    """One person, cut out and enlarged: ground truth at the left, prediction at the right.

    Args:
        image: (H, W, 3) uint8, RGB.
        info: of the K keypoints.
        truth: keypoints (K, 2) in image pixels, and (K,) bool, which of them are labelled.
        bbox: (4,) x, y, width, height.
        points: (K, 2) what was predicted; None where nothing was.
        errors: (K,) kinds of errors, see `judge`; a line leads from each keypoint with a worse one
            than jitter to its right place.

    Returns:
        (h, w, 3) uint8, RGB.
    """
    labels, seen = truth
    x, y, width, height = bbox
    corners = np.array([[x, y], [x + width, y + height]])
    reach = max(width, height)
    shown = [corners, labels[seen]]
    if points is not None:  # as far as they are not farther off than the person is large
        shown.append(points[seen].clip(corners[0] - reach, corners[1] + reach))
    part, origin, zoom = _cut(image, np.concatenate(shown))
    left, right = part, part.copy()

    def placed(where: np.ndarray) -> np.ndarray:
        return (where - origin + 0.5) * zoom - 0.5

    size = zoom * reach
    draw_pose(left, placed(labels), seen, info, size)
    if points is not None:
        far = np.flatnonzero(errors > JITTER)
        pairs = placed(np.stack([points[far], labels[far]], 1)).clip(-FAR, FAR)
        ends = np.round(pairs).astype(int).tolist()
        for color, thickness in ((INK, 2), (PAPER, 1)):
            for start, end in ends:
                cv2.line(right, start, end, color, thickness, cv2.LINE_AA)
        draw_pose(right, placed(points), seen, info, size)  # over the lines
        for color, thickness in ((INK, 3), (PAPER, 1)):
            for _, end in ends:
                cv2.drawMarker(right, end, color, cv2.MARKER_TILTED_CROSS, 9, thickness)
    found = 'prediction' if points is not None else 'no prediction'
    for side, text in ((left, 'ground truth'), (right, found)):
        write(side, text, (4, 14), PAPER, INK)
    return np.hstack([left, np.full((len(left), 4, 3), 255, np.uint8), right])


def _cut(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """What of an image holds all points, enlarged; its upper left corner; and how much larger."""
    low, high = points.min(0), points.max(0)
    margin = _PADDING * (high - low).max() + 4
    end = np.array(image.shape[1::-1])
    x1, y1 = np.floor(low - margin).clip(0, end - 1).astype(int)
    x2, y2 = np.ceil(high + margin).clip((x1 + 1, y1 + 1), end).astype(int)
    zoom = _HEIGHT / max(y2 - y1, (x2 - x1) * 0.8)
    part = cv2.resize(image[y1:y2, x1:x2], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    return part, np.array([x1, y1]), zoom
