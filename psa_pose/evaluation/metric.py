"""What all metrics share: predictions of a dataset's persons, collected batch by batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psa_pose.errors import ResultError
from psa_pose.files import write_json

if TYPE_CHECKING:
    from psa_pose.datasets import TopdownDataset


class PoseMetric(ABC):
    """Collects predictions, then computes numbers from them.

    Args:
        dataset: whose persons are predicted.

    Attributes:
        names: of its numbers, as far as they are known before they are computed.
        decimals: that people are shown of a number.
        predictions: by person, keypoints (K, 2) in image pixels and scores (K,).
        skipped: persons whose image could not be read; they count as missed.
    """

    names: tuple[str, ...] = ()
    decimals = 4

    def __init__(self, dataset: 'TopdownDataset') -> None:
        self.dataset = dataset
        self.reset()

    @property
    def boxes(self) -> str:
        """Where the persons' boxes come from."""
        return self.dataset.boxes

    @property
    @abstractmethod
    def title(self) -> str:
        """Names what the numbers are about, and the boxes' source."""

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to measure against."""
        return self.dataset.annotated

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers must know."""
        return []

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """Numbers by name, and `boxes`.

        Raises:
            ResultError: there is no prediction.
        """

    @abstractmethod
    def results(self) -> Any:
        """The predictions in the format of the dataset's result files, ready for JSON."""

    def write_results(self, path: Path) -> None:
        """Write `results` as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.results(), indent=None)

    def tables(self, numbers: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """Title and numbers of each table that people are shown; `numbers` from `compute`."""
        return [(self.title, numbers)]

    def parts(self, numbers: Mapping[str, Any]) -> list[tuple['PoseMetric', Mapping[str, Any]]]:
        """The metrics that this one is made of, each with its own numbers."""
        return [(self, numbers)]

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
            ResultError: numbers are not finite, or of another K than the dataset's.
        """
        expected = (len(person), self.dataset.info.num_keypoints)
        if keypoints.shape != (*expected, 2) or scores.shape != expected:
            raise ResultError(
                f'expected keypoints of {expected[0]} persons with K = {expected[1]}, got arrays '
                f'of shape {keypoints.shape} and {scores.shape}'
            )
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
