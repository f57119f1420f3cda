"""The arms of a study: every combination of its factors' levels, each with its config."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config

from psa_pose.ablation.factors import FACTORS, Change, changes_of
from psa_pose.engine.config import KEYS
from psa_pose.errors import ConfigError, nearest


def arm_name(levels: Mapping[str, Any]) -> str:
    """Levels as a name, that is a folder's as well; the factor is said of True and False."""
    words = [
        (name if level else f'no_{name}') if isinstance(level, bool) else str(level)
        for name, level in levels.items()
    ]
    return '-'.join(words)


def read_factors(factors: Mapping[str, Any], where: str) -> dict[str, dict[Any, Change]]:
    """By factor its levels, each with its change of the config."""
    if not factors:
        raise ConfigError(f'{where}: factors is empty: nothing is varied')
    return {name: changes_of(name, levels, where) for name, levels in factors.items()}


def make_arms(
    base: Config, factors: Mapping[str, Mapping[Any, Change]], where: str
) -> tuple[dict[str, dict[str, Any]], dict[str, Config], dict[str, str]]:
    """Every combination of levels with its config; of those with the same config the first.

    Returns:
        By arm its levels and its config; and by the name of any combination the arm that it is.
    """
    order = sorted(factors, key=_rank)
    arms: dict[str, dict[str, Any]] = {}
    configs: dict[str, Config] = {}
    seen: dict[str, str] = {}  # the arm of a config
    same: dict[str, str] = {}
    levels_of: dict[str, dict[str, Any]] = {}
    for chosen in itertools.product(*(factors[name] for name in factors)):
        levels = dict(zip(factors, chosen, strict=True))
        cfg = deepcopy(base)
        for name in order:
            factors[name][levels[name]](cfg)
        _check_keys(cfg, f'{where}: {levels}')
        arm, text = arm_name(levels), repr(cfg.to_dict())
        if arm in levels_of:
            raise ConfigError(
                f"{where}: {levels_of[arm]} and {levels} would both be called '{arm}'"
            )
        if not re.fullmatch(r'[\w+][\w.+-]*', arm):
            raise ConfigError(
                f"{where}: '{arm}' cannot be the name of a folder: give {levels} names of letters, "
                "digits and '_.+-'"
            )
        levels_of[arm], same[arm] = levels, seen.setdefault(text, arm)
        if same[arm] == arm:
            arms[arm], configs[arm] = levels, cfg
    return arms, configs, same


def _check_keys(cfg: Config, where: str) -> None:
    for key in cfg:
        if key not in KEYS and not key.startswith('_'):
            raise ConfigError(f"{where}: nothing reads the key '{key}'; {nearest(key, KEYS)}")


def _rank(name: str) -> int:
    """Factors of the user's own come last: they may change what the others made."""
    return list(FACTORS).index(name) if name in FACTORS else len(FACTORS)


def baselines(
    given: Any,
    factors: Mapping[str, Mapping[Any, Change]],
    arms: Mapping[str, Mapping[str, Any]],
    same: Mapping[str, str],
    where: str,
) -> tuple[str, dict[str, str]]:
    """What arms are compared with.

    Args:
        given: levels of some factors: every arm is compared with the one that has these, and is
            like it in all other factors. None: all with the first level of each factor.
        factors: with their levels.
        arms: levels by arm.
        same: see `make_arms`.
        where: for errors.

    Returns:
        The arm that step times are shown against, and every arm's baseline.
    """
    first = {name: next(iter(known)) for name, known in factors.items()}
    chosen = dict(mapping(given or {}, f'{where}: baseline'))
    for name, level in chosen.items():
        if name not in factors:
            raise ConfigError(f"{where}: baseline: no factor '{name}'; {nearest(name, factors)}")
        if level not in factors[name]:
            hint = nearest(str(level), [str(known) for known in factors[name]])
            raise ConfigError(f'{where}: baseline.{name}: no level {level!r}; {hint}')
    reset = chosen or first
    found = {arm: same[arm_name({**levels, **reset})] for arm, levels in arms.items()}
    return same[arm_name({**first, **chosen})], found


def digest(cfg: Config) -> str:
    """The same for configs that say the same."""
    return hashlib.sha256(repr(cfg.to_dict()).encode()).hexdigest()[:16]


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be a dict."""
    if not isinstance(value, Mapping):
        raise ConfigError(f'{where}: expected dict(...), got {value!r}')
    return value
