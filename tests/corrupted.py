"""Predictions corrupted in known ways: the ground truth itself, then errors put in one by one."""

import json
from pathlib import Path

import numpy as np

from psa_pose.evaluation.diagnosis import GroundTruth, read_ground_truth
from psa_pose.evaluation.diagnosis.detections import check_results
from psa_pose.evaluation.pairs import keypoint_similarity
from tests.handmade import coco_content, image_entry, person_entry

AWAY = 1e5  # pixels: near nobody


def crowd_file(folder: Path, images: int = 12, persons: int = 4, seed: int = 0) -> Path:
    """Persons of 5 keypoints side by side, one in six keypoints unlabelled; beside them a crowd."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image_id in range(1, images + 1):
        for i in range(persons):
            corner = np.array([150 * i, rng.uniform(0, 20)])
            points = corner + np.array([[50, 10], [15, 40], [85, 40], [30, 95], [70, 95]])
            seen = rng.random(5) > 1 / 6
            seen[:2] = True
            keypoints = np.column_stack([points + rng.normal(0, 3, (5, 2)), 2 * seen])
            keypoints[~seen] = 0
            annotations.append(
                person_entry(
                    len(annotations) + 1,
                    image_id,
                    bbox=[*corner.tolist(), 100, 110],
                    area=float(rng.uniform(900, 12000)),
                    keypoints=keypoints.ravel().tolist(),
                    num_keypoints=int(seen.sum()),
                )
            )
        crowd = {'bbox': [2000, 0, 200, 110], 'area': 9000.0, 'keypoints': [0] * 15}
        annotations.append(
            person_entry(len(annotations) + 1, image_id, iscrowd=1, num_keypoints=0, **crowd)
        )
    content = coco_content(annotations, [image_entry(i) for i in range(1, images + 2)])
    path = folder / 'crowd.json'
    path.write_text(json.dumps(content))
    return path


class Predictions:
    """A detection of each evaluated person, right until it is corrupted.

    `errors` counts what was put in, by kind and keypoint.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.truth: GroundTruth = read_ground_truth(path)
        self.rng = np.random.default_rng(seed)
        self.persons = np.flatnonzero(~self.truth.ignored)
        centre = self.truth.bbox[:, :2] + self.truth.bbox[:, 2:] / 2
        places = np.where(self.truth.labelled[..., None], self.truth.keypoints, centre[:, None])
        self.points = places[self.persons].copy()
        self.score = self.rng.permutation(len(self.persons)) / len(self.persons) / 2 + 0.25
        self.extra: list[tuple[int, np.ndarray, float]] = []
        self.errors: dict[str, np.ndarray] = {}
        # So few a person that it stays the one that its detection is most like.
        labelled = self.truth.labelled[self.persons]
        self.spoilt = np.zeros(labelled.shape, bool)
        self.allowed = np.maximum(labelled.sum(1) // 3, 0)

    def _choose(self, possible: np.ndarray, share: float) -> np.ndarray:
        """(N, 2) detections and keypoints, about `share` of those possible, not spoilt yet."""
        possible = possible & self.truth.labelled[self.persons] & ~self.spoilt
        chosen = []
        candidates = self.rng.permutation(np.argwhere(possible))
        for i, k in candidates[: max(1, round(share * len(candidates)))]:
            if self.spoilt[i].sum() < self.allowed[i]:
                self.spoilt[i, k] = True
                chosen.append((i, k))
        assert chosen, 'nothing could be corrupted'
        return np.array(chosen)

    def _similarity(self, points: np.ndarray, places: np.ndarray) -> np.ndarray:
        area = self.truth.area[self.persons]
        return keypoint_similarity(points, places, area, np.array(self.truth.info.sigmas))

    def _put(self, kind: str, chosen: np.ndarray, places: np.ndarray) -> None:
        self.points[chosen[:, 0], chosen[:, 1]] = places
        count = np.bincount(chosen[:, 1], minlength=self.points.shape[1])
        self.errors[kind] = self.errors.get(kind, 0) + count

    def jitter(self, share: float) -> None:
        """So far off that the similarity is between 0.55 and 0.8."""
        chosen = self._choose(np.ones(self.spoilt.shape, bool), share)
        persons = self.persons[chosen[:, 0]]
        similar = self.rng.uniform(0.55, 0.8, len(chosen))
        k = 2 * np.array(self.truth.info.sigmas)[chosen[:, 1]]
        distance = np.sqrt(-2 * np.log(similar) * self.truth.area[persons]) * k
        angle = self.rng.uniform(0, 2 * np.pi, len(chosen))
        offset = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
        self._put('jitter', chosen, self.truth.keypoints[persons, chosen[:, 1]] + offset)

    def inversion(self, share: float) -> None:
        """Onto the mirror image's place, where that is labelled and not near."""
        flip = list(self.truth.info.flip_indices)
        own, mirrored = (
            self.truth.keypoints[self.persons],
            self.truth.keypoints[self.persons][:, flip],
        )
        possible = self._similarity(mirrored, own) < 0.5
        possible &= self.truth.labelled[self.persons][:, flip]
        chosen = self._choose(possible, share)
        self._put('inversion', chosen, mirrored[chosen[:, 0], chosen[:, 1]])

    def swap(self, share: float) -> None:
        """Onto the same keypoint of another person of the image, where that is not near."""
        truth = self.truth
        places = np.full(self.points.shape, np.nan)
        for i, person in enumerate(self.persons):
            others = np.flatnonzero(truth.image_id == truth.image_id[person])
            # Not to one with fewer labels: a few keypoints alone would make it the more like.
            count = truth.labelled.sum(1)
            rich = ~truth.crowd[others] & (count[others] >= count[person])
            others = self.rng.permutation(others[(others != person) & rich])
            for other in others:
                seen = truth.labelled[other]
                places[i, seen] = truth.keypoints[other, seen]
        flip = list(truth.info.flip_indices)
        own = truth.keypoints[self.persons]
        there = np.nan_to_num(places, nan=AWAY)
        possible = ~np.isnan(places[..., 0]) & (self._similarity(there, own) < 0.5)
        possible &= self._similarity(there, own[:, flip]) < 0.99
        chosen = self._choose(possible, share)
        self._put('swap', chosen, places[chosen[:, 0], chosen[:, 1]])

    def miss(self, share: float) -> None:
        """Near nothing."""
        chosen = self._choose(np.ones(self.spoilt.shape, bool), share)
        self._put('miss', chosen, np.full((len(chosen), 2), -AWAY))

    def missed_person(self, count: int) -> None:
        """Some persons are not predicted; errors put into them before are forgotten."""
        assert not self.errors, 'drop persons first'
        kept = self.rng.permutation(len(self.persons))[count:]
        gone = np.setdiff1d(np.arange(len(self.persons)), kept)
        self.errors['missed person'] = self.truth.labelled[self.persons[gone]].sum(0)
        for name in ('persons', 'points', 'score', 'spoilt', 'allowed'):
            setattr(self, name, getattr(self, name)[np.sort(kept)])

    def background(self, count: int) -> None:
        """Invented persons, surer than any other."""
        for i in self.rng.integers(len(self.persons), size=count):
            offset = AWAY * (1 + self.rng.random(2))
            image_id = int(self.truth.image_id[self.persons[i]])
            self.extra.append((image_id, self.points[i] + offset, 0.9 + self.rng.random() / 10))

    def duplicate(self, count: int) -> None:
        """Less sure copies of detections, where no crowd is near that COCO would give them to."""
        image_ids = self.truth.image_id[self.persons]
        crowded = self.truth.image_id[self.truth.ignored & (self.truth.bbox[:, 0] < 2000)]
        # Nor of spoilt ones: a swapped keypoint is near a neighbour, who may be free.
        alone = np.flatnonzero(~np.isin(image_ids, crowded) & ~self.spoilt.any(1))
        for i in self.rng.permutation(alone)[:count]:
            image_id = int(image_ids[i])
            self.extra.append((image_id, self.points[i] + 0.25, self.rng.random() / 5))

    def rows(self) -> list[dict]:
        """In COCO's result format."""
        image_ids = self.truth.image_id[self.persons].tolist()
        found = [*zip(image_ids, self.points, self.score, strict=True), *self.extra]
        return [
            {
                'image_id': image_id,
                'category_id': self.truth.category,
                'keypoints': np.insert(points, 2, 1, axis=1).ravel().tolist(),
                'score': float(score),
            }
            for image_id, points, score in found
        ]

    def detections(self):
        """As the diagnosis takes them."""
        return check_results(self.rows(), self.truth, 'made here')
