"""Reading a run from its work dir; what is missing or damaged is said, never guessed."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from psa_pose.engine.config import literal
from psa_pose.engine.record_files import read_history, read_object
from psa_pose.errors import ConfigError, nearest
from psa_pose.report.events import Curve, read_curves
from psa_pose.report.run import Evaluation, Run

TRAINING = ('loss', 'lr', 'samples_per_s', 'data_wait', 'eta_min', 'epoch')
"""Tags of the curves that are no evaluation's."""
_TRACES = ('history.jsonl', 'tensorboard', 'checkpoints', 'evaluation', 'test', 'config.py')


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read a work dir.

    Raises:
        ConfigError: there is no such folder, or no run in it; says the nearest.
    """
    _check(folder)
    run = Run(folder, name or folder.resolve().name)
    for path in (folder / 'config.py', folder / 'test/config.py'):
        if path.is_file():
            run.config_text = path.read_text(encoding='utf-8', errors='replace')
            break
    run.config = _config(run.config_text)
    run.environment = read_object(folder / 'environment.json')
    run.test_environment = read_object(folder / 'test/environment.json')
    run.curves = read_curves(folder / 'tensorboard', _begun(run.environment))
    run.history = read_history(folder) or _history_of(run.curves)
    run.evaluation = _evaluation(folder / 'evaluation')
    run.test = _evaluation(folder / 'test')
    run.missing = list(_missing(run))
    return run


def _begun(environment: Mapping[str, Any]) -> float:
    """When the run began, seconds since 1970; 0 where that is not known."""
    first = [*(environment.get('earlier') or []), environment][0]
    if not isinstance(first, Mapping) or first.get('from_step') != 0:
        return 0
    try:
        return datetime.fromisoformat(str(first.get('started'))).timestamp()
    except ValueError:
        return 0


def _check(folder: Path) -> None:
    if not folder.is_dir():
        parent = folder.parent
        beside = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
        what = 'is a file, not a folder' if folder.exists() else 'is not there'
        raise ConfigError(f'work dir {folder} {what}; {nearest(folder.name, beside)}')
    if any((folder / name).exists() for name in _TRACES):
        return
    below = [p.name for p in sorted(folder.iterdir()) if any((p / n).exists() for n in _TRACES)]
    if any((folder.parent / name).exists() for name in _TRACES):
        hint = f'but {folder.parent} does'
    else:
        hint = f'but these below it do: {", ".join(below[:8])}' if below else 'nor does any below'
    raise ConfigError(f'{folder} holds no run (none of {", ".join(_TRACES)}), {hint}')


def _config(text: str) -> dict[str, Any]:
    """The config as literals: it is read, not run. Empty where that cannot be."""
    try:
        return {
            target.id: literal(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _history_of(curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """The evaluations of a run of an older version, from its event files."""
    entries: dict[int, dict[str, Any]] = {}
    for tag, curve in curves.items():
        if tag in TRAINING or not re.match(r'[A-Za-z@]+[\d.]*(/.*)?$', tag):
            continue
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            empty: dict[str, Any] = {'epoch': None, 'step': step, 'metrics': {}}
            entries.setdefault(step, empty)['metrics'][tag] = value
    epochs = curves.get('epoch')
    for entry in entries.values():
        if epochs is not None:
            before = epochs.steps <= entry['step']
            entry['epoch'] = int(epochs.values[before][-1]) + 1 if before.any() else None
    return [entries[step] for step in sorted(entries)]


def _evaluation(folder: Path) -> Evaluation | None:
    about, metrics = read_object(folder / 'about.json'), read_object(folder / 'metrics.json')
    if not about:
        return None
    evaluation = Evaluation(folder, about, metrics)
    path = folder / 'results.json'
    try:
        if path.stat().st_size != about.get('results_size'):
            evaluation.wrong = f'{path} is not of the evaluation that about.json is of'
            return evaluation
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        evaluation.wrong = f'{path}: {error.strerror}'
    except (ValueError, RecursionError) as error:
        evaluation.wrong = f'{path} is not JSON: {error}'
    else:
        evaluation.results = content if isinstance(content, list) else None
        evaluation.wrong = '' if isinstance(content, list) else f'{path} is no list of predictions'
    return evaluation


def _missing(run: Run) -> Iterator[str]:
    older = '(a run of an older version?)'
    if not run.config_text:
        yield 'config.py: there is no config to show, and no published row to compare with'
    elif not run.config:
        yield 'a config of plain values: config.py is shown, and nothing is read from it'
    if not run.environment and (run.history or run.curves):
        yield f'environment.json {older}: machine and versions are unknown'
    if not run.curves:
        yield 'event files in tensorboard/: there are no curves of the training'
    if not run.history:
        yield 'an evaluation: there are no numbers yet'
    elif not (run.folder / 'history.jsonl').exists():
        yield (
            f'history.jsonl {older}: numbers are those of the event files, which do not say the '
            'person boxes'
        )
    if run.latest is None and run.history:
        yield (
            'predictions, and so diagnosis and examples; they come from psa-pose test CONFIG '
            f'CHECKPOINT --work-dir {run.folder}'
        )
    elif run.latest and run.latest.wrong:
        yield f'predictions: {run.latest.wrong}'
