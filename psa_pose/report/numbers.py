"""Numbers of evaluations as people read them, and which of them may stand beside each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psa_pose.evaluation.coco_ap import METRIC_NAMES
from psa_pose.evaluation.references import (
    COCO_VAL,
    DETECTOR,
    DETECTOR_FILE,
    GROUND_TRUTH,
    MPII_REFERENCES,
    REFERENCES,
    model_of,
)
from psa_pose.report.run import Evaluation, Run, number


def percent(share: Any) -> str:
    """Of a share in [0, 1], as the field prints AP; a dash where it is not known."""
    return f'{100 * share:.1f}' if number(share) else '–'


def shown(run: Run, name: str, value: Any) -> str:
    """A number of a run's evaluation for people."""
    if not number(value):
        return '–'
    scale = in_percent(run, name)
    return f'{scale * value:.1f}' if scale else f'{value:.2f}' if value >= 10 else f'{value:.4f}'


def unit(run: Run, name: str) -> str:
    """The number's name with what it is in, for headings."""
    return f'{name}, %' if in_percent(run, name) else name


def in_percent(run: Run, name: str) -> float:
    """What makes percent of a number: 100 of AP and AR, 1 of MPII's PCKh; 0 of all others.

    It is the metric that decides: `PCKAccuracy` has a PCKh as well, from 0 to 1.
    """
    metric = run.metric_of(name)
    if metric == 'MpiiPCKAccuracy':
        return 1
    return 100 if metric == 'CocoMetric' and name.rpartition('/')[2] in METRIC_NAMES else 0


def columns(rows: list[Mapping[str, Any]]) -> list[str]:
    """Names of the numbers of a table's rows, those by keypoint left out: they have their own."""
    names = dict.fromkeys(name for row in rows for name in row if name != 'boxes')
    return [name for name in names if not by_keypoint(name)]


def by_keypoint(name: str) -> bool:
    """Whether it is a joint's, as of `PCKh@0.5/left_knee`."""
    return name.startswith('PCKh@') and '/' in name


def references(run: Run, evaluation: Evaluation) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Published rows of the same model and of its baseline, with the same kind of boxes.

    Returns:
        Rows (source, AP or PCKh, AR or ''), and what must be said: rows measured with other boxes
        are named there and never stand beside the run's.
    """
    try:
        model = model_of(run.config)
    except (KeyError, TypeError, ValueError, AttributeError):
        model = None
    if model is None:
        return [], []
    file = Path(str(evaluation.about.get('ann_file', ''))).name
    if evaluation.about.get('dataset') == 'MpiiDataset':
        return _mpii(model, file)
    if file != COCO_VAL:
        return [], []
    notes, rows = [], []
    mine = GROUND_TRUTH if evaluation.boxes == 'ground truth' else DETECTOR
    for row in REFERENCES:
        if not (row.is_of(model) or row.is_of(model._replace(psa=''))):
            continue
        if row.boxes == mine:
            name = f'{row.name} (without PSA)' if model.psa and not row.model.psa else row.name
            rows.append((name, f'{row.ap:.1f}', '' if row.ar is None else f'{row.ar:.1f}'))
        else:
            notes.append(f'not comparable, measured with {row.boxes}: {row.name}, AP {row.ap:.1f}')
    if rows and mine == DETECTOR and DETECTOR_FILE not in evaluation.boxes:
        notes.append(f'comparable with these rows only if the boxes are {DETECTOR}')
    if rows and not evaluation.about.get('flip_test', True):
        notes.append('not comparable: published rows are with flip test, this run is without')
    return rows, notes


def _mpii(model: Any, file: str) -> tuple[list[tuple[Any, ...]], list[str]]:
    row = MPII_REFERENCES.get((model.backbone, model.codec))
    if row is None or model.size != '256x256' or 'val' not in file:
        return [], []
    name = f'{row[0]} (without PSA)' if model.psa else row[0]
    return [(name, f'{row[1]:.1f}', '')], []
