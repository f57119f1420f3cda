"""Training and evaluating one cell, and what it leaves."""

import json
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from psa_pose.ablation.predictions import save_predictions
from psa_pose.ablation.provenance import differences, mixed_error, provenance
from psa_pose.ablation.study import Cell
from psa_pose.engine.evaluate import evaluate
from psa_pose.engine.ranks import Ranks
from psa_pose.engine.train import train
from psa_pose.errors import ResultError
from psa_pose.files import write_json

STARTED, DONE, FAILED, PREDICTIONS = 'started.json', 'done.json', 'failed.json', 'predictions.npz'


def run_cell(cell: Cell, folder: Path, allow_mixed: bool = False) -> dict[str, Any]:
    """Train a cell, from where it was, evaluate its last weights, and write `done.json`.

    Args:
        cell: of a study.
        folder: for the run, its predictions and its numbers.
        allow_mixed: go on with what other code, data or config began.

    Returns:
        What `done.json` says.

    Raises:
        ResultError: see `allow_mixed`.
    """
    now = provenance(cell)
    if (origin := begun(folder)) is None:
        origin = now
    if (lines := differences(origin, now)) and not allow_mixed:
        raise mixed_error(cell.name, folder, lines, 'begun')
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STARTED, origin)
    cfg = deepcopy(cell.config)
    cfg.work_dir = str(folder / 'run')
    before, started = _seconds_before(folder), time.monotonic()
    with Ranks() as ranks:
        try:
            last = train(cfg, resume='auto', ranks=ranks)
        finally:  # what a stop does not lose
            seconds = before + time.monotonic() - started
            write_json(folder / 'seconds.json', seconds)
        module = evaluate(cfg, last, ranks=ranks)
    save_predictions(module.metric, folder / PREDICTIONS)
    done = {
        'arm': cell.arm,
        'levels': dict(cell.levels),
        'seed': cell.seed,
        'metrics': module.metrics,
        'parameters': sum(p.numel() for p in module.estimator.parameters()),
        'seconds': seconds,
        'provenance': origin,
    }
    write_json(folder / DONE, done)
    (folder / FAILED).unlink(missing_ok=True)
    return done


def finished(folder: Path) -> dict[str, Any] | None:
    """What `done.json` says of a cell, or None where it is not finished.

    Raises:
        ResultError: the file cannot be read.
    """
    return _read(folder / DONE)


def begun(folder: Path) -> dict[str, Any] | None:
    """The provenance of what there is of a cell, or None where it has no weights yet."""
    if done := finished(folder):
        return done['provenance']
    if not any(folder.glob('run/checkpoints/*.ckpt')):
        return None
    return _read(folder / STARTED) or {}  # weights of which nothing is known


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultError(f'{path}: {error}') from None
    if not isinstance(content, dict):
        raise ResultError(f'{path}: expected an object, got {content!r}')
    return content


def _seconds_before(folder: Path) -> float:
    try:
        return float(json.loads((folder / 'seconds.json').read_text()))
    except (OSError, ValueError, TypeError):
        return 0.0
