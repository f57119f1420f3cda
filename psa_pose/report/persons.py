"""Every person of an evaluation with what was predicted of it, from result files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets.annotations import read_json
from psa_pose.datasets.mpii import FIRST_PIXEL, PIXELS_PER_SCALE, read_mpii_json
from psa_pose.errors import DataError, PSAPoseError, ResultError
from psa_pose.evaluation.diagnosis import (
    Diagnosis,
    GroundTruth,
    Options,
    diagnose,
    read_ground_truth,
)
from psa_pose.evaluation.diagnosis.detections import Detections, check_results
from psa_pose.evaluation.diagnosis.kinds import JITTER, judge
from psa_pose.evaluation.diagnosis.matching import MATCHED, match
from psa_pose.evaluation.diagnosis.options import KEYPOINT_KINDS
from psa_pose.evaluation.diagnosis.scene import Scene
from psa_pose.report.run import Evaluation, Run
from psa_pose.structures import MPII_KEYPOINTS, KeypointInfo


@dataclass(frozen=True)
class Persons:
    """G persons that are asked for.

    Attributes:
        info: of their K keypoints.
        keypoints: (G, K, 2) the truth, in image pixels.
        labelled: (G, K) bool.
        bbox: (G, 4) x, y, width, height.
        id: (G,) annotation ids; of MPII places in the file.
        image: (G,) names of files.
        found: (G,) bool, whether anything was predicted.
        points: (G, K, 2) the predictions, 0 where nothing was.
        errors: (G, K) kinds, see `judge`; 0 where they are not known.
        quality: (G,) the higher the better: OKS, 0 of who was not found; of MPII minus the mean
            error in units of the person's size.
    """

    info: KeypointInfo
    keypoints: np.ndarray
    labelled: np.ndarray
    bbox: np.ndarray
    id: np.ndarray
    image: list[str]
    found: np.ndarray
    points: np.ndarray
    errors: np.ndarray
    quality: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def describe(self, person: int) -> str:
        """How well a person was found, in words."""
        if not self.found[person]:
            return 'missed'
        value = float(self.quality[person])
        return f'OKS {value:.2f}' if value >= 0 else f'mean error {-value:.1%} of its size'

    def wrong(self, person: int) -> str:
        """Which keypoints are wrong in which way, jitter aside: 'swap: left knee, left ankle'."""
        parts = []
        for kind, name in enumerate(KEYPOINT_KINDS, JITTER):
            own = np.flatnonzero(self.errors[person] == kind)
            if len(own) and kind != JITTER:
                words = (self.info.names[k].replace('_', ' ') for k in own)
                parts.append(f'{name}: {", ".join(words)}')
        return '; '.join(parts)


@dataclass
class Analysis:
    """What can be said of an evaluation's predictions.

    Attributes:
        persons: None where the predictions or the annotations are not there.
        diagnosis: None also where they are not in COCO's format.
        image_root: where the images should be.
        why_not: what stood in the way.
    """

    persons: Persons | None = None
    diagnosis: Diagnosis | None = None
    image_root: Path = Path()
    why_not: str = ''


def analyse(run: Run) -> Analysis:
    """Look at the run's latest predictions."""
    evaluation = run.latest
    if evaluation is None or evaluation.results is None:
        return Analysis(why_not=evaluation.wrong if evaluation else 'no predictions are kept')
    ann_file = _located(run, evaluation, 'ann_file')
    analysis = Analysis(image_root=_located(run, evaluation, 'image_root'))
    try:
        if not ann_file.is_file():
            raise DataError(f'the annotations are not there any more: {ann_file}')
        if evaluation.about.get('dataset') == 'MpiiDataset':
            analysis.persons = _of_mpii(ann_file, evaluation.results)
            return analysis
        truth = read_ground_truth(ann_file)
        source = str(evaluation.folder / 'results.json')
        detections = check_results(evaluation.results, truth, source)
        analysis.diagnosis = diagnose(truth, detections)
        analysis.persons = _of_coco(truth, detections)
    except (PSAPoseError, OSError) as error:
        analysis.why_not = str(error)
    return analysis


def _located(run: Run, evaluation: Evaluation, key: str) -> Path:
    """Where a file was, or where the config says from here: a run may have moved."""
    path = Path(str(evaluation.about.get(key, '')))
    loader = run.config.get('test_dataloader') or run.config.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    name = (
        dataset.get('ann_file') if key == 'ann_file' else dataset.get('data_prefix', {}).get('img')
    )
    other = Path(str(dataset.get('data_root') or ''), str(name or ''))
    return path if path.exists() or not name or not other.exists() else other


def _of_coco(truth: GroundTruth, detections: Detections) -> Persons:
    options = Options()
    scene = Scene.of(truth, detections)
    matches = match(scene.pairs, scene.oks, truth, options.match_oks)
    kinds = judge(scene.pairs, scene.points, truth, matches, options).kind
    names = {image['id']: str(image.get('file_name')) for image in read_json(truth.path)['images']}
    own = scene.pairs.person == matches.person[scene.pairs.row]
    own &= matches.kind[scene.pairs.row] == MATCHED
    person, row = scene.pairs.person[own], scene.pairs.row[own]
    quality, found = np.zeros(len(truth)), np.zeros(len(truth), bool)
    points, errors = np.zeros_like(truth.keypoints), np.zeros(truth.labelled.shape, int)
    quality[person], found[person] = scene.oks[own], True
    points[person], errors[person] = scene.points[row], kinds[row]
    asked = np.flatnonzero(~truth.ignored)
    return Persons(
        info=truth.info,
        keypoints=truth.keypoints[asked],
        labelled=truth.labelled[asked],
        bbox=truth.bbox[asked],
        id=truth.id[asked],
        image=[names[i] for i in truth.image_id[asked].tolist()],
        found=found[asked],
        points=points[asked],
        errors=errors[asked],
        quality=quality[asked],
    )


def _of_mpii(ann_file: Path, results: list[dict[str, Any]]) -> Persons:
    entries, info = read_mpii_json(ann_file), MPII_KEYPOINTS
    try:
        rows = [(r['entry'], entries[r['entry']], np.array(r['joints'], float)) for r in results]
        truth = np.array([entry['joints'] for _, entry, _ in rows], float) - FIRST_PIXEL
        labelled = np.array([entry['joints_vis'] for _, entry, _ in rows], float) > 0
        center = np.array([entry['center'] for _, entry, _ in rows], float) - FIRST_PIXEL
        size = PIXELS_PER_SCALE * np.array([float(entry['scale']) for _, entry, _ in rows])
        images = [str(entry['image']) for _, entry, _ in rows]
        points = np.stack([joints for _, _, joints in rows]) - FIRST_PIXEL
        distance = np.linalg.norm(points - truth, axis=-1)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ResultError(f'results are not about {ann_file}: {error!r}') from None
    count = np.maximum(labelled.sum(1), 1)
    return Persons(
        info=info,
        keypoints=truth,
        labelled=labelled,
        bbox=np.column_stack([center - size[:, None] / 2, size, size]),
        id=np.array([entry for entry, _, _ in rows]),
        image=images,
        found=np.ones(len(rows), bool),
        points=points,
        errors=np.zeros(labelled.shape, int),
        quality=-np.maximum((distance * labelled).sum(1) / count / size, 1e-9),
    )
