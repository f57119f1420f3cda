"""Raw predictions of an evaluation in a file, to compute numbers from again."""

from pathlib import Path

import numpy as np

from psa_pose.errors import ResultError
from psa_pose.evaluation import PoseMetric


def save_predictions(metric: PoseMetric, path: Path) -> None:
    """Write what a metric has collected: `person` (P,), `keypoints` (P, K, 2), `scores` (P, K)."""
    index = sorted(metric.predictions)
    keypoints = np.array([metric.predictions[i][0] for i in index], np.float32)
    scores = np.array([metric.predictions[i][1] for i in index], np.float32)
    with path.open('wb') as file:
        np.savez(file, person=np.array(index, np.int64), keypoints=keypoints, scores=scores)


def load_predictions(metric: PoseMetric, path: Path) -> None:
    """Give a metric what `save_predictions` wrote.

    Raises:
        ResultError: the file is no such, or is about other persons.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            person, keypoints, scores = (file[name] for name in ('person', 'keypoints', 'scores'))
    except (OSError, ValueError, KeyError) as error:
        raise ResultError(f'{path}: no predictions of a study: {error}') from None
    if len(person) and (person.min() < 0 or person.max() >= len(metric.dataset)):
        raise ResultError(f'{path}: persons up to {person.max()}, of {len(metric.dataset)}')
    metric.reset()
    metric.process(person, np.ones(len(person), bool), keypoints, scores)
