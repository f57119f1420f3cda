"""What PCK, AUC, EPE and NME share: distances of keypoints, and the sizes to measure them by."""

from typing import TYPE_CHECKING, Any

import numpy as np

from psa_pose.errors import DataError, nearest
from psa_pose.evaluation.metric import PoseMetric

if TYPE_CHECKING:
    from psa_pose.datasets import TopdownDataset

SIZES = {
    'bbox': "the box' larger side",
    'head': 'the head size',
    'torso': 'the torso from left shoulder to right hip',
}


class KeypointMetric(PoseMetric):
    """Distances between predicted and labelled keypoints.

    Args:
        dataset: whose persons are predicted; the ground truth is its own.

    Raises:
        ValueError: none of its persons has a labelled keypoint (boxes of a detector have none).
    """

    def __init__(self, dataset: 'TopdownDataset') -> None:
        super().__init__(dataset)
        self.labelled = dataset.persons.keypoints[..., 2] > 0
        if not self.labelled.any():
            raise ValueError(
                f'{type(self).__name__} measures against labelled keypoints, but the persons of '
                f'{dataset.ann_file} (boxes: {dataset.boxes}) have none: leave it out, or '
                'evaluate on ground-truth boxes'
            )

    @property
    def what(self) -> str:
        """Names the numbers, for the title."""
        return ', '.join(self.names)

    @property
    def title(self) -> str:
        """Names what the numbers are about, and the boxes' source."""
        persons = f'{len(self.dataset)} persons of {self.dataset.ann_file.name}'
        text = f'{self.what}; {self.boxes} boxes, {persons}'
        return f'{text}, {self.skipped} skipped as unreadable' if self.skipped else text

    def results(self) -> list[dict[str, Any]]:
        """Predictions in COCO's result format; the score is the box' times the keypoints' mean."""
        persons = self.dataset.persons
        return [
            {
                'image_id': int(persons.image_id[i]),
                'category_id': getattr(self.dataset, 'category_id', 1),
                'keypoints': np.column_stack([keypoints, scores]).astype(float).ravel().tolist(),
                'score': float(persons.box_score[i] * scores.mean()),
            }
            for i, (keypoints, scores) in sorted(self.predictions.items())
        ]

    def distances(self) -> np.ndarray:
        """(P, K) |p - g| in pixels, infinite for persons that were not predicted."""
        self.check_not_empty()
        truth = self.dataset.persons.keypoints[..., :2].astype(np.float64)
        distances = np.full(truth.shape[:2], np.inf)
        for i, (keypoints, _) in self.predictions.items():
            distances[i] = np.linalg.norm(keypoints - truth[i], axis=-1)
        return distances


def mean_pck(distances: np.ndarray, counted: np.ndarray, thr: float) -> float:
    """Mean over keypoints of the share nearer than `thr`; -1 where nothing is counted.

    Args:
        distances: (P, K).
        counted: (P, K) bool; keypoints that nobody has do not enter the mean.
        thr: in the distances' unit.
    """
    count = counted.sum(0)
    right = ((distances < thr) & counted).sum(0)
    return float(np.mean(right[count > 0] / count[count > 0])) if count.any() else -1.0


def person_sizes(dataset: 'TopdownDataset', item: str) -> np.ndarray:
    """(P,) pixels that distances are measured by, 0 or NaN where a person has none.

    Raises:
        ValueError: there is no such size in the dataset.
    """
    if item == 'bbox':
        boxes = dataset.persons.bbox.astype(np.float64)
        return (boxes[:, 2:] - boxes[:, :2]).max(1)
    if item == 'torso':
        return label_distance(dataset, 'left_shoulder', 'right_hip')
    if item != 'head':
        raise ValueError(f"no norm_item '{item}'; {nearest(item, SIZES)}")
    sizes = getattr(dataset, 'head_size', None)
    if sizes is None:
        raise ValueError(
            f"norm_item 'head' needs a dataset with head sizes (MpiiDataset), and "
            f'{dataset.ann_file} has none'
        )
    if not (sizes > 0).any():
        raise DataError(f"{dataset.ann_file}: no person has a 'headbox', by which PCKh measures")
    return sizes


def label_distance(dataset: 'TopdownDataset', first: str, second: str) -> np.ndarray:
    """(P,) pixels between two labels of a person, 0 where it lacks one of them.

    Raises:
        ValueError: the dataset has no keypoint of such a name.
    """
    names = dataset.info.names
    for name in (first, second):
        if name not in names:
            raise ValueError(
                f"{dataset.ann_file} has no keypoint '{name}' to measure by; {nearest(name, names)}"
            )
    keypoints = dataset.persons.keypoints.astype(np.float64)
    one, other = keypoints[:, names.index(first)], keypoints[:, names.index(second)]
    both = (one[:, 2] > 0) & (other[:, 2] > 0)
    return np.where(both, np.linalg.norm(one[:, :2] - other[:, :2], axis=1), 0)


def normalised(
    distances: np.ndarray, labelled: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in units of their person's size, and which of them count."""
    known = sizes > 0
    return distances / np.where(known, sizes, 1)[:, None], labelled & known[:, None]


def mean(values: np.ndarray, counted: np.ndarray) -> float:
    """Mean of the finite `values` that are `counted`; -1 where there are none."""
    chosen = values[counted & np.isfinite(values)]
    return float(chosen.mean()) if len(chosen) else -1.0
