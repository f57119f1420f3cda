"""MPII's PCKh, as its official evaluation computes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psa_pose.datasets.mat_file import read_mat
from psa_pose.datasets.mpii import FIRST_PIXEL, head_size
from psa_pose.errors import ConfigError, DataError, ResultError
from psa_pose.evaluation.metric import PoseMetric
from psa_pose.registry import METRICS
from psa_pose.structures import MPII_KEYPOINTS

if TYPE_CHECKING:
    from psa_pose.datasets import MpiiDataset

_NAMES = MPII_KEYPOINTS.names
_GROUPS = {
    'Head': ('head_top',),
    **{
        part.capitalize(): (f'left_{part}', f'right_{part}')
        for part in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
    },
}
_THRESHOLDS = (0.5, 0.1)
_MEASURED = np.array([name not in ('pelvis', 'thorax') for name in _NAMES])
# `dataset_joints` of the .mat, in the order of MPII_KEYPOINTS.
_MAT_NAMES = [
    *('rank', 'rkne', 'rhip', 'lhip', 'lkne', 'lank', 'pelv', 'thor', 'neck', 'head'),
    *('rwri', 'relb', 'rsho', 'lsho', 'lelb', 'lwri'),
]
_SAME_JOINT = 0.5  # pixels between two files' coordinates of one joint
METRIC_NAMES = (
    'PCKh',
    'PCKh@0.1',
    *_GROUPS,
    *(f'PCKh@{threshold}/{name}' for threshold in _THRESHOLDS for name in _NAMES),
)


@dataclass(frozen=True)
class MpiiTruth:
    """N persons as they are measured; coordinates count from 1, as in the .mat.

    Attributes:
        keypoints: (N, 16, 2).
        labelled: (N, 16) bool.
        head_size: (N,) pixels, see `psa_pose.datasets.mpii.head_size`.
        source: the file, for titles and errors.
    """

    keypoints: np.ndarray
    labelled: np.ndarray
    head_size: np.ndarray
    source: Path

    def of(self, rows: np.ndarray) -> 'MpiiTruth':
        """Some of the persons."""
        return MpiiTruth(
            self.keypoints[rows], self.labelled[rows], self.head_size[rows], self.source
        )


def pckh(predictions: np.ndarray, truth: MpiiTruth, threshold: float = 0.5) -> np.ndarray:
    """Percentage of labelled joints found within `threshold` head sizes.

    Args:
        predictions: (N, 16, 2), counting from 1 as the truth does; NaN counts as not found.
        truth: of the same N persons.
        threshold: in head sizes.

    Returns:
        (16,) float64, NaN where no person has the joint.
    """
    distance = np.linalg.norm(predictions - truth.keypoints, axis=2)
    found = (distance <= threshold * truth.head_size[:, None]) & truth.labelled
    count = truth.labelled.sum(0)
    return np.where(count > 0, 100 * found.sum(0) / np.maximum(count, 1), np.nan)


def mean_pckh(by_joint: np.ndarray, truth: MpiiTruth) -> float:
    """The official mean: over all labelled joints but pelvis and thorax."""
    count = truth.labelled.sum(0) * _MEASURED
    return float(np.nansum(by_joint * count) / count.sum()) if count.any() else np.nan


def summarize(predictions: np.ndarray, truth: MpiiTruth) -> dict[str, float]:
    """`METRIC_NAMES` in percent, -1 where no person has the joint.

    A part with two sides is their plain mean, as the official table's.
    """
    by_threshold = {t: pckh(predictions, truth, t) for t in _THRESHOLDS}
    strict = dict(zip(_NAMES, by_threshold[0.5], strict=True))
    values = [mean_pckh(by_threshold[t], truth) for t in _THRESHOLDS]
    values += [_mean([strict[name] for name in names]) for names in _GROUPS.values()]
    values += [value for by_joint in by_threshold.values() for value in by_joint]
    known = (-1.0 if np.isnan(value) else float(value) for value in values)
    return dict(zip(METRIC_NAMES, known, strict=True))


@METRICS.register_module()
class MpiiPCKAccuracy(PoseMetric):
    """PCKh at 0.5 and 0.1 of the head size, per joint and mean (Andriluka et al. 2014).

    HRNet's own code, and tables made with it, print as `Mean@0.1` what they measured at 0.11.

    Args:
        dataset: a `MpiiDataset`.
        gt_file: the field's `mpii_gt_val.mat` (HRNet's `gt_valid.mat`), relative to the dataset's
            `data_root`: `pos_gt_src`, `jnt_missing`, `headboxes_src`, `dataset_joints`, persons in
            the order of the annotations. Without it every person of the annotations needs its
            `headbox`. Nobody has joints in test images: predictions only, no numbers.

    Raises:
        ConfigError: the dataset is not MPII's.
        DataError: no head sizes, or a file that is not in this format.
        ResultError: `gt_file` is about other persons.
    """

    names = METRIC_NAMES
    decimals = 2

    def __init__(self, dataset: 'MpiiDataset', gt_file: str | None = None) -> None:
        if dataset.info.names != _NAMES or not hasattr(dataset, 'head_size'):
            raise ConfigError(
                f"MpiiPCKAccuracy measures a dataset of type 'MpiiDataset', not "
                f"'{type(dataset).__name__}' ({dataset.ann_file})"
            )
        super().__init__(dataset)
        self.dataset: MpiiDataset = dataset
        if gt_file and dataset.annotated:
            self.truth: MpiiTruth | None = self._from_mat(dataset.data_root / gt_file)
        else:
            self.truth = self._from_json()

    @property
    def title(self) -> str:
        """Names what the numbers are about, and the boxes' source."""
        about = f'boxes: {self.boxes}, {len(self.dataset)} persons of {self.dataset.ann_file.name}'
        if self.truth is None:
            text = f'No PCKh: the joints are not public; {about}'
        else:
            text = f'PCKh in %, {about}'
            if self.truth.source != self.dataset.ann_file:
                text += f', head sizes of {self.truth.source.name}'
        return f'{text}, {self.skipped} skipped as unreadable' if self.skipped else text

    def tables(self, numbers: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """Means and parts, then every joint."""
        parts = {name: value for name, value in numbers.items() if '/' not in name}
        joints = {name: value for name, value in numbers.items() if '/' in name}
        return [(self.title, parts), *([('By joint', joints)] if joints else [])]

    def compute(self) -> dict[str, Any]:
        """`METRIC_NAMES` in percent (-1 where no person has the joint), and `boxes`."""
        self.check_not_empty()
        if self.truth is None:
            return {'boxes': self.boxes}
        predictions = np.full((len(self.dataset), len(_NAMES), 2), np.nan)
        for index, (keypoints, _) in self.predictions.items():
            predictions[index] = keypoints + FIRST_PIXEL
        return {**summarize(predictions, self.truth), 'boxes': self.boxes}

    def results(self) -> list[dict[str, Any]]:
        """Predictions in the layout of the annotations: `joints` count from 1; `joint_scores`."""
        persons = self.dataset.persons
        return [
            {
                'image': persons.file_name[index].decode(),
                'entry': int(persons.id[index]),
                'joints': (keypoints.astype(float) + FIRST_PIXEL).tolist(),
                'joint_scores': scores.astype(float).tolist(),
            }
            for index, (keypoints, scores) in sorted(self.predictions.items())
        ]

    def write_results(self, path: Path) -> None:
        """Write the results; to a `.mat` as the field does, see `prediction_array`."""
        if path.suffix != '.mat':
            return super().write_results(path)
        from scipy.io import savemat  # slow to load, and only MPII needs it

        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {'preds': self.prediction_array()})

    def prediction_array(self) -> np.ndarray:
        """(entries of the file, 16, 2), counting from 1; NaN where a person was not predicted."""
        array = np.full((self.dataset.entries, len(_NAMES), 2), np.nan)
        for index, (keypoints, _) in self.predictions.items():
            array[self.dataset.persons.id[index]] = keypoints + FIRST_PIXEL
        return array

    def _labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The dataset's own joints (P, 16, 2), counting from 1, and whether each is labelled."""
        keypoints = self.dataset.persons.keypoints.astype(np.float64)
        return keypoints[..., :2] + FIRST_PIXEL, keypoints[..., 2] > 0

    def _from_json(self) -> MpiiTruth | None:
        keypoints, labelled = self._labels()
        if not self.dataset.annotated:
            return None
        without = np.flatnonzero(np.isnan(self.dataset.head_size))
        if len(without):
            raise DataError(
                f'{self.dataset.ann_file}: {len(without)} of {len(self.dataset)} persons have no '
                f"'headbox' (the first is entry {self.dataset.persons.id[without[0]]}), and PCKh "
                "is measured in head sizes: set val_evaluator.gt_file to the field's "
                "mpii_gt_val.mat, which 'python tools/prepare_data.py mpii' says where to get"
            )
        return MpiiTruth(keypoints, labelled, self.dataset.head_size, self.dataset.ann_file)

    def _from_mat(self, path: Path) -> MpiiTruth:
        truth = read_truth(path)
        rows = self.dataset.persons.id
        keypoints, labelled = self._labels()
        if len(truth.head_size) != self.dataset.entries:  # a part of the annotations, perhaps
            return truth.of(self._rows_by_joints(keypoints, labelled, truth))
        chosen = truth.of(rows)
        both = labelled & chosen.labelled
        offset = np.abs(keypoints - chosen.keypoints).max(2)
        if both.any() and np.median(offset[both]) > _SAME_JOINT:
            raise ResultError(
                f'{path} and {self.dataset.ann_file} have the same number of persons, but their '
                f'joints are {np.median(offset[both]):.0f} pixels apart: they are about different '
                'persons, or in another order'
            )
        return chosen

    def _rows_by_joints(
        self, keypoints: np.ndarray, labelled: np.ndarray, truth: MpiiTruth
    ) -> np.ndarray:
        rows = np.zeros(len(keypoints), int)
        for i, (points, seen) in enumerate(zip(keypoints, labelled, strict=True)):
            both = seen & truth.labelled
            offset = np.where(both, np.abs(points - truth.keypoints).max(2), 0).max(1)
            same = np.flatnonzero(
                (offset <= _SAME_JOINT) & (seen == truth.labelled).all(1) & seen.any()
            )
            if len(same) != 1:
                raise ResultError(
                    f'{self.dataset.ann_file} has {self.dataset.entries} entries, '
                    f'{truth.source} has {len(truth.head_size)} persons, and entry '
                    f'{self.dataset.persons.id[i]} has the joints of {len(same)} of them: give '
                    'the ground truth of these annotations'
                )
            rows[i] = same[0]
        return rows


def read_truth(path: Path) -> MpiiTruth:
    """Read the field's ground truth, `mpii_gt_val.mat`.

    Raises:
        DataError: missing, not a .mat file, or without one of its arrays.
    """
    content = read_mat(path)
    arrays = []
    for name, shape in (
        ('pos_gt_src', (16, 2, -1)),
        ('jnt_missing', (16, -1)),
        ('headboxes_src', (2, 2, -1)),
    ):
        try:
            array = np.asarray(content.get(name, ()), np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{path}: '{name}' is no array of numbers") from None
        if array.ndim != len(shape) or any(
            n != found for n, found in zip(shape[:-1], array.shape, strict=False)
        ):
            raise DataError(
                f"{path}: '{name}' should be {' x '.join(map(str, shape[:-1]))} x persons, "
                f'found {array.shape if array.size else "nothing"}'
            )
        arrays.append(np.moveaxis(array, -1, 0))
    joints, missing, headboxes = arrays
    if not len(joints) == len(missing) == len(headboxes):
        raise DataError(f'{path}: its arrays have {[len(a) for a in arrays]} persons')
    names = [str(np.ravel(name)[0]) for name in np.ravel(content.get('dataset_joints', _MAT_NAMES))]
    if names != _MAT_NAMES:
        raise DataError(f'{path}: dataset_joints are {names}, expected {_MAT_NAMES}')
    sizes, labelled = head_size(headboxes.reshape(-1, 4)), missing == 0
    known = np.isfinite(joints).all(2) | ~labelled
    usable = np.isfinite(sizes) & (sizes > 0) & known.all(1)
    if not usable.all():
        raise DataError(
            f'{path}: person {np.flatnonzero(~usable)[0]} (from 0) has no head box, or a labelled '
            'joint that is no finite number'
        )
    return MpiiTruth(joints, labelled, sizes, path)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
