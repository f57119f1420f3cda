"""Similarities of many poses at once: of keypoints, and OKS of detections with persons."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_CHUNK = 1 << 22  # numbers at a time: 32 MB


@dataclass(frozen=True)
class Labels:
    """What OKS asks of G persons.

    Attributes:
        keypoints: (G, K, 2) in image pixels.
        labelled: (G, K) bool, COCO's v > 0.
        bbox: (G, 4) x, y, width, height.
        area: (G,) in pixels squared.
    """

    keypoints: np.ndarray
    labelled: np.ndarray
    bbox: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Each of D detections with each person of its image: P pairs, detection by detection.

    Attributes:
        image_id: (D,) of the detections.
        row: (P,) indices of detections, rising.
        person: (P,) indices of persons.
        start: (D + 1,) where a detection's pairs begin.
    """

    image_id: np.ndarray
    row: np.ndarray
    person: np.ndarray
    start: np.ndarray

    @classmethod
    def of_same_image(cls, image_id: np.ndarray, person_image_id: np.ndarray) -> 'Pairs':
        """Pairs of what stands in the images `image_id` (D,) with persons in (G,), rising."""
        low = np.searchsorted(person_image_id, image_id, 'left')
        count = np.searchsorted(person_image_id, image_id, 'right') - low
        start = np.concatenate([[0], np.cumsum(count)])
        row = np.repeat(np.arange(len(image_id)), count)
        return cls(image_id, row, np.arange(start[-1]) - start[row] + low[row], start)

    def by_image(self, values: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Values (P,) as a matrix (detections, persons) for each image that has both.

        Args:
            values: of the pairs.
            rows: the detections to take, image by image; a matrix has them in this order.
        """
        cuts = np.flatnonzero(np.diff(self.image_id[rows])) + 1
        matrices = {}
        for own in np.split(rows, cuts) if len(rows) else []:
            first = own[0]
            count = self.start[first + 1] - self.start[first]
            if count:
                places = self.start[own][:, None] + np.arange(count)
                matrices[int(self.image_id[first])] = values[places]
        return matrices


def keypoint_similarity(
    points: np.ndarray, places: np.ndarray, area: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """exp(-d^2 / (2 s^2 k^2)) with s^2 the person's area and k = 2 sigma (Lin et al. 2014).

    Args:
        points: (..., K, 2) in pixels.
        places: (..., K, 2).
        area: (...,) in pixels squared.
        sigmas: (..., K).

    Returns:
        (..., K) in [0, 1].
    """
    squared = ((points - places) ** 2).sum(-1)
    return np.exp(-squared / (2 * sigmas) ** 2 / (area + np.spacing(1))[..., None] / 2)


def oks_of_pairs(
    pairs: Pairs, points: np.ndarray, labels: Labels, sigmas: np.ndarray
) -> np.ndarray:
    """OKS with the truth (Lin et al. 2014; cocodataset.org/#keypoints-eval).

    To a person without labelled keypoints the distance is that to its box, doubled in size.
    The same operations in the same order as pycocotools', so equal to the last bit, without its
    loop over pairs: persons with equally many labelled keypoints are treated together.

    Args:
        pairs: P of them.
        points: (D, K, 2) of the detections.
        labels: of the persons.
        sigmas: (K,).

    Returns:
        (P,) in [0, 1].
    """
    low = labels.bbox[:, :2] - labels.bbox[:, 2:]
    high = labels.bbox[:, :2] + 2 * labels.bbox[:, 2:]
    used = np.argsort(~labels.labelled, axis=1, kind='stable')  # labelled keypoints first, in order
    number = labels.labelled.sum(1)
    values = np.empty(len(pairs.row))
    for k in np.unique(number[pairs.person]):
        for these in _chunks(np.flatnonzero(number[pairs.person] == k), len(sigmas)):
            person = pairs.person[these]
            columns = used[person, :k] if k else used[person]
            own = points[pairs.row[these, None], columns]
            if k:
                places = labels.keypoints[person[:, None], columns]
            else:
                places = np.clip(own, low[person, None], high[person, None])
            similar = keypoint_similarity(own, places, labels.area[person], sigmas[columns])
            values[these] = similar.sum(1) / similar.shape[1]
    return values


def _chunks(indices: np.ndarray, num_keypoints: int) -> Iterator[np.ndarray]:
    """Small enough for arrays over all keypoints."""
    step = max(1, _CHUNK // num_keypoints)
    for begin in range(0, len(indices), step):
        yield indices[begin : begin + step]
