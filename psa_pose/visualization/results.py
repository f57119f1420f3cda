"""Pictures of a metric's predictions: each image with all of its persons."""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from psa_pose.datasets.transforms import read_image
from psa_pose.visualization.overlay import INK, PAPER, save, write
from psa_pose.visualization.skeleton import draw_pose

if TYPE_CHECKING:
    from psa_pose.evaluation import PoseMetric

_SHORT_SIDE = 480  # smaller images are enlarged, so that a skeleton can be read


def draw_results(metric: 'PoseMetric', folder: Path, score_thr: float = 0.2) -> int:
    """Write each predicted image, ground truth at the left, predictions at the right.

    Args:
        metric: after an evaluation.
        folder: where the JPEGs go, named by id and name of their images.
        score_thr: keypoints with a lower score are not drawn.

    Returns:
        How many pictures were written.
    """
    dataset = metric.dataset
    by_image = defaultdict(list)
    for index in sorted(metric.predictions):
        by_image[dataset.persons.file_name[index].decode()].append(index)
    for file_name, indices in by_image.items():
        image = read_image(dataset.image_root / file_name)
        zoom = max(1.0, _SHORT_SIDE / min(image.shape[:2]))
        image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        truth, prediction = image, image.copy()
        boxes, unsure = dataset.persons.bbox, 0
        # The largest, which is mostly the nearest, comes last and so on top.
        for index in sorted(indices, key=lambda i: np.prod(boxes[i, 2:] - boxes[i, :2])):
            labels = dataset.persons.keypoints[index]
            keypoints, scores = metric.predictions[index]
            x1, y1, x2, y2 = boxes[index]
            size = zoom * float(max(x2 - x1, y2 - y1))
            draw_pose(truth, _zoomed(labels[:, :2], zoom), labels[:, 2] > 0, dataset.info, size)
            draw_pose(prediction, _zoomed(keypoints, zoom), scores > score_thr, dataset.info, size)
            unsure += int((scores <= score_thr).sum())
        # By id as well: file names may differ in their folder alone.
        path = folder / f'{dataset.persons.image_id[indices[0]]}_{Path(file_name).stem}.jpg'
        if len(indices) > 1:  # a number for each, the same on both sides
            for number, index in enumerate(indices, 1):
                for side in (truth, prediction):
                    _number(side, number, _zoomed(boxes[index, :2], zoom))
        _caption(truth, 'ground truth' if dataset.boxes == 'ground truth' else 'image')
        hidden = f' ({unsure} keypoints below {score_thr} not drawn)' if unsure else ''
        _caption(prediction, f'prediction{hidden}')
        save(path, np.hstack([truth, prediction]), quality=95)
    return len(by_image)


def _zoomed(points: np.ndarray, zoom: float) -> np.ndarray:
    """Where points go when the image is enlarged; pixel centres are integers on both sides."""
    return (points + 0.5) * zoom - 0.5


def _caption(image: np.ndarray, text: str) -> None:
    write(image, text, (8, 20), PAPER, INK, scale=0.55)


def _number(image: np.ndarray, number: int, corner: np.ndarray) -> None:
    """Beside the upper left corner of a person's box."""
    height, width = image.shape[:2]
    x, y = corner.clip(0, (width - 24, height - 16)).astype(int).tolist()
    write(image, str(number), (x + 2, y + 14), PAPER, INK)
