"""What all metrics share: predictions of a dataset's persons, collected batch by batch."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from psa_pose.errors import ResultError

if TYPE_CHECKING:
    from psa_pose.datasets import CocoStyleDataset


class PoseMetric(ABC):
    """Collects predictions, then computes numbers from them.

    Args:
        dataset: whose persons are predicted.

    Attributes:
        predictions: by person, keypoints (K, 2) in image pixels and scores (K,).
        skipped: persons whose image could not be read; they count as missed.
    """

    def __init__(self, dataset: 'CocoStyleDataset') -> None:
        self.dataset = dataset
        self.reset()

    @property
    def boxes(self) -> str:
        """Where the persons' boxes come from."""
        return 'ground truth'

    @property
    @abstractmethod
    def title(self) -> str:
        """Names what the numbers are about, and the boxes' source."""

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """Numbers by name, and `boxes`.

        Raises:
            ResultError: there is no prediction.
        """

    @abstractmethod
    def results(self) -> Any:
        """The predictions in the format of the dataset's result files, ready for JSON."""

    def reset(self) -> None:
        """Forget all predictions."""
        self.predictions: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.skipped = 0

    def process(
        self, person: np.ndarray, usable: np.ndarray, keypoints: np.ndarray, scores: np.ndarray
    ) -> None:
        """Take a batch of predictions.

        Args:
            person: (B,) indices into the dataset.
            usable: (B,) bool; False where the image could not be read.
            keypoints: (B, K, 2) in image pixels.
            scores: (B, K).

        Raises:
            ResultError: numbers are not finite.
        """
        if not (np.isfinite(keypoints[usable]).all() and np.isfinite(scores[usable]).all()):
            raise ResultError('predicted keypoints are not finite numbers: has training diverged?')
        self.skipped += int((~usable).sum())
        for i in np.flatnonzero(usable):
            self.predictions[int(person[i])] = (keypoints[i], scores[i])

    def check_not_empty(self) -> None:
        """Refuse to compute numbers of nothing."""
        if not self.predictions:
            raise ResultError(
                f'no prediction to evaluate on {self.dataset.ann_file}: '
                f'{self.skipped} persons were skipped, 0 predicted'
            )
