"""What comes out of an image or a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PoseResult:
    """The N persons of an image or of a video's frame, as plain arrays.

    Attributes:
        source: the file, `array I` or `webcam:I`.
        image_size: (width, height) in pixels; (0, 0) where the image could not be read.
        boxes: (N, 4) float32, x1, y1, x2, y2 in image pixels: where each person was looked for.
        box_scores: (N,) float32; 1 where boxes came without scores.
        keypoints: (N, K, 2) float32, x and y in image pixels; pixel centres are integers.
        scores: (N, K) float32, the heatmaps' maxima.
        frame: of a video, from 0; None of an image.
        tracks: (N,) int64, the same number for the same person in all frames of a video; None
            without smoothing.
        error: why the image could not be used, with `on_error='skip'`; else ''.
    """

    source: str
    image_size: tuple[int, int]
    boxes: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    frame: int | None = None
    tracks: np.ndarray | None = None
    error: str = ''

    def __len__(self) -> int:
        """N."""
        return len(self.boxes)

    def to_coco(
        self, image_id: int, category_id: int = 1, keypoint_score_thr: float = 0.2
    ) -> list[dict[str, Any]]:
        """Entries in COCO's result format, ready for JSON.

        Args:
            image_id: of the image.
            category_id: of persons.
            keypoint_score_thr: a person's score is its box' times the mean of its keypoint scores
                above this, as in `CocoMetric`.
        """
        counted = self.scores > keypoint_score_thr
        mean = (self.scores * counted).sum(1) / np.maximum(counted.sum(1), 1)
        rows = np.concatenate([self.keypoints, self.scores[..., None]], -1).reshape(len(self), -1)
        return [
            {
                'image_id': image_id,
                'category_id': category_id,
                'keypoints': keypoints,
                'score': score,
            }
            for keypoints, score in zip(
                rows.astype(float).tolist(),
                (self.box_scores * mean).astype(float).tolist(),
                strict=True,
            )
        ]
