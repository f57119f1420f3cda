"""How long every cell of a study trains."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from psa_pose.ablation.factors import set_options
from psa_pose.errors import ConfigError, nearest

BUDGETS = ('epochs', 'steps', 'minutes')
_NEVER = 1 << 20  # epochs


def read_budget(given: Mapping[str, Any], where: str) -> tuple[str, float]:
    """One of `BUDGETS`, and how many of them.

    Raises:
        ConfigError: something else.
    """
    if len(given) != 1 or next(iter(given)) not in BUDGETS:
        names = ', '.join(map(str, given)) or 'nothing'
        hint = nearest(str(next(iter(given), '')), BUDGETS)
        raise ConfigError(f'{where}: expected one of {BUDGETS}, got {names}; {hint}')
    kind, amount = next(iter(given.items()))
    number = isinstance(amount, int if kind != 'minutes' else int | float)
    if not number or isinstance(amount, bool) or not 0 < amount < math.inf:
        whole = 'whole ' if kind != 'minutes' else ''
        raise ConfigError(f'{where}.{kind}: expected a {whole}number above 0, got {amount!r}')
    return kind, amount


def spend(cfg: Config, kind: str, amount: int) -> None:
    """Let a config train for so many epochs or steps, and evaluate once, at the end.

    Evaluations before that would tempt to stop where it looks best. Of the schedule what is counted
    in epochs shrinks (or grows) with the run, so that the rate falls within it as it would have.

    Args:
        cfg: changed.
        kind: 'epochs' or 'steps'.
        amount: of these.
    """
    share = amount / (cfg.get('train_cfg') or {}).get('max_epochs', 210)
    entries = cfg.get('param_scheduler') or []
    for entry in [entries] if isinstance(entries, Mapping) else entries:
        if entry.get('by_epoch', True):
            _stretch(entry, share, kind)
    changes: dict[str, Any] = {
        'train_cfg.max_epochs': amount,
        'train_cfg.val_interval': amount,
        'default_hooks.checkpoint.save_best': None,
    }
    if kind == 'steps':
        changes |= {'train_cfg.max_epochs': _NEVER, 'train_cfg.val_interval': _NEVER}
        changes['trainer.max_steps'] = amount
    set_options(cfg, changes)


def _stretch(entry: Any, share: float, kind: str) -> None:
    """Multiply a schedule's moments; in a budget of steps they are steps from now on."""
    for key in ('begin', 'end'):
        if entry.get(key):
            entry[key] *= share
    if entry.get('milestones'):
        entry['milestones'] = [moment * share for moment in entry['milestones']]
    if kind == 'steps':
        entry['by_epoch'] = False
        entry.pop('convert_to_iter_based', None)
