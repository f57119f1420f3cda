"""A run's evaluations as rows of tables, each with how it was measured.

Numbers of different annotations, person boxes or ways to measure never share a table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from psa_pose.report.run import Evaluation, Run

_MOST = 12  # rows of one run's history; its curve has them all


class Kind(NamedTuple):
    """What must be the same for numbers to compare."""

    ann_file: str
    boxes: str
    flip: str = ''
    sigmas: str = ''

    def __str__(self) -> str:
        parts = (self.ann_file, f'person boxes: {self.boxes}', self.flip, self.sigmas)
        return ', '.join(part for part in parts if part)


class Row(NamedTuple):
    """An evaluation."""

    where: str
    """Such as 'epoch 8, best'."""
    metrics: dict[str, Any]
    kind: Kind
    best: bool = False
    evaluation: Evaluation | None = None
    """What is known of it beyond its numbers; also of the latest of a training."""


def training_kind(run: Run) -> Kind:
    """How the evaluations of the training were measured."""
    boxes = next((str(e['boxes']) for e in reversed(run.history) if e.get('boxes')), '')
    if run.evaluation:
        return evaluation_kind(run.evaluation)
    dataset = (run.config.get('val_dataloader') or {}).get('dataset') or {}
    ann_file = Path(str(dataset.get('ann_file') or 'unknown annotations')).name
    return Kind(ann_file, boxes or 'unknown (a run of an older version)')


def evaluation_kind(evaluation: Evaluation) -> Kind:
    """How an evaluation was measured."""
    about = evaluation.about
    flip = {True: 'with flip test', False: 'without flip test'}
    sigmas = about.get('sigmas_source')
    coco = about.get('dataset') != 'MpiiDataset'  # PCKh has no sigmas
    return Kind(
        Path(str(about.get('ann_file', 'unknown annotations'))).name,
        evaluation.boxes,
        flip.get(bool(about['flip_test']), '') if 'flip_test' in about else '',
        f'{sigmas} sigmas' if sigmas and coco else '',
    )


def rows_of(run: Run, *, ends: bool = False) -> list[Row]:
    """The history, or of it the best and the last alone, and the test."""
    best, last = run.best, run.history[-1] if run.history else None
    picked = run.history
    if ends:
        picked = [entry for entry in picked if entry is best or entry is last]
    elif len(picked) > _MOST:
        kept = set(np.linspace(0, len(picked) - 1, _MOST - 1).round().astype(int).tolist())
        picked = [e for i, e in enumerate(picked) if i in kept or e is best]
    kind = training_kind(run)
    rows = []
    for entry in picked:
        marks = [word for word, one in (('best', best), ('last', last)) if entry is one]
        where = ', '.join([f'epoch {entry["epoch"]}', *marks])
        evaluation = run.evaluation if entry is last else None
        rows.append(Row(where, entry['metrics'], kind, entry is best, evaluation))
    if run.test:
        file = str(run.test.about.get('checkpoint', 'a checkpoint')).rpartition('/')[2]
        kind = evaluation_kind(run.test)
        rows.append(Row(f'test of {file}', run.test.metrics, kind, evaluation=run.test))
    return rows


def kinds(rows: Sequence[Row]) -> list[Kind]:
    """Each once, in order."""
    return list(dict.fromkeys(row.kind for row in rows))
