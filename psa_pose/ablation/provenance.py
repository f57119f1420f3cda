"""Where a cell's numbers come from, and whether those of two cells may stand in one table."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import psa_pose
from psa_pose.ablation.study import Cell
from psa_pose.engine import build
from psa_pose.engine.environment import commit, environment
from psa_pose.engine.step import step_options
from psa_pose.errors import ResultError

# What training and evaluation run; pages, reports and tools may change between two cells.
_CODE = ('codecs', 'datasets', 'evaluation', 'models')
_ENGINE = ('build', 'ema', 'evaluate', 'module', 'nonfinite', 'optim', 'param_groups', 'step')
_ENGINE_MORE = ('fsdp2', 'strategy', 'sync_bn', 'train', 'trainer')
_SHOWN = 12  # lines of a difference


def provenance(cell: Cell, known: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
    """Everything that must be as it was for a cell's numbers to stand in a study's table.

    Args:
        cell: of a study.
        known: datasets and weights that were looked at, so that those of many cells are read once;
            extended.

    Returns:
        `config`, every value by its path; `code`, a digest a file; `data`, a digest of the persons
        of each split; `weights`, a digest of each file that training starts from; `torch`; `step`,
        its precision and the like. For people: `commit`, `machine`.
    """
    known = {} if known is None else known
    asked = repr([cell.config[f'{name}_dataloader'].get('dataset') for name in ('train', 'val')])
    if asked not in known:
        known[asked] = {name: _dataset(cell, name) for name in ('train', 'val')}
    return {
        'config': _flat(cell.config.to_dict()),
        'code': code_digests(),
        'data': known[asked],
        'weights': _weights(cell.config, known),
        'torch': torch.__version__,
        'step': str(step_options(cell.config)),
        'commit': commit() or 'unknown',
        'machine': machine(),
    }


def code_digests() -> dict[str, str]:
    """A digest of every source file that training and evaluation run, by its path."""
    root = Path(psa_pose.__file__).parent
    files = [file for part in _CODE for file in (root / part).rglob('*.py')]
    files += [root / 'engine' / f'{name}.py' for name in (*_ENGINE, *_ENGINE_MORE)]
    files += [root / 'registry.py', root / 'structures.py']
    return {f.relative_to(root).as_posix(): _digest(f.read_bytes()) for f in sorted(files)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two provenances differ in, a line each."""
    lines = []
    for key in ('config', 'data', 'weights', 'torch', 'step', 'code'):
        then, today = (_named(key, found.get(key)) for found in (before, now))
        for name in sorted({*then, *today}):
            if key == 'weights' and name not in today:  # a finished cell needs them no more
                continue
            if then.get(name) != today.get(name):
                was, is_now = then.get(name, 'nothing'), today.get(name, 'nothing')
                lines.append(f'{name}: {was}, now {is_now}')
    if lines and before.get('commit') != now.get('commit'):
        lines.insert(0, f'commit: {before.get("commit")}, now {now.get("commit")}')
    return lines


def mixed_error(name: str, folder: Path, lines: list[str], what: str) -> ResultError:
    """For a cell that is 'finished' or 'begun', but not as it would be here."""
    more = [f'and {len(lines) - _SHOWN} more'] if len(lines) > _SHOWN else []
    return ResultError(
        f'the cell {name} was {what} otherwise than this study would now:\n  '
        + '\n  '.join([*lines[:_SHOWN], *more])
        + f'\nGo back to what it was, move {folder} away to train it anew, or name another '
        '--work-dir; --allow-mixed takes it and says so under the table'
    )


def machine() -> str:
    """The GPU, or else the processor."""
    found = environment()
    return str((found['gpus'] or [found['cpu']])[0])


def _named(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {key: value}
    return {f'{key} {name}': part for name, part in value.items()}


def _flat(value: Any, path: str = '') -> dict[str, str]:
    """The leaves of a config by their paths."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    if not items:
        return {path: repr(value)}
    return {p: v for k, sub in items for p, v in _flat(sub, f'{path}.{k}'.lstrip('.')).items()}


def _dataset(cell: Cell, name: str) -> str:
    dataset = build.build_dataset(cell.config, f'{name}_dataloader')
    digest = _digest(dataset.fingerprint())
    return f'{len(dataset)} persons of {dataset.ann_file}, boxes: {dataset.boxes}, {digest}'


def _weights(cfg: Mapping[str, Any], known: dict[str, dict[str, str]]) -> dict[str, str]:
    """By path: what a file of that name holds may be another training's tomorrow."""
    init_cfg = cfg['model']['backbone'].get('init_cfg') or {}
    names = [str(name) for name in (cfg.get('load_from'), init_cfg.get('checkpoint')) if name]
    for name in names:
        if name not in known and Path(name).is_file():
            known[name] = {name: _digest(Path(name).read_bytes())}
    return {path: digest for name in names for path, digest in known.get(name, {}).items()}


def _digest(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:12]
