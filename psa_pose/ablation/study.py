"""A study's file, read: every cell of it with the config that it trains."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from psa_pose.ablation.arms import (
    arm_name,
    baselines,
    digest,
    make_arms,
    mapping,
    read_factors,
)
from psa_pose.ablation.budget import read_budget, spend
from psa_pose.ablation.factors import set_options
from psa_pose.engine.config import load_config
from psa_pose.errors import ConfigError, nearest
from psa_pose.evaluation.keypoint_metrics import LESS_IS_BETTER

KEYS: dict[str, Any] = {
    'title': '',
    'base': None,
    'options': {},
    'factors': None,
    'baseline': None,
    'seeds': (0, 1, 2),
    'budget': None,
    'metric': 'AP',
    'rule': None,
    'also': (),
    'work_dir': None,
}


@dataclass(frozen=True)
class Cell:
    """One training: a level of each factor, and a seed."""

    levels: Mapping[str, Any]
    seed: int
    config: Config

    @property
    def arm(self) -> str:
        """Its levels, as one name; the cells of an arm differ in their seed."""
        return arm_name(self.levels)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f'{self.arm}/seed{self.seed}'


@dataclass(frozen=True)
class Study:
    """What is varied, from where, and how long.

    Attributes:
        file: of the study.
        title: for tables and plots.
        budget: 'epochs', 'steps' or 'minutes', and how many of them.
        metric: the number that decides.
        also: numbers that the table shows beside it.
        less_is_better: those of them that are errors.
        baseline: the arm that step times are shown against.
        baselines: by arm the one that its numbers are compared with; a baseline is its own.
        seeds: of every arm.
        work_dir: where cells and tables go.
        arms: levels by arm, in the order of the factors; configs that are the same come once.
    """

    file: Path
    title: str
    budget: tuple[str, float]
    metric: str
    also: tuple[str, ...]
    less_is_better: frozenset[str]
    baseline: str
    baselines: Mapping[str, str]
    seeds: tuple[int, ...]
    work_dir: Path
    arms: Mapping[str, Mapping[str, Any]]
    configs: Mapping[str, Config] = field(repr=False)

    def cells(self, steps: Mapping[str, int] | None = None) -> list[Cell]:
        """All trainings, seed by seed, so that a study that was stopped compares what it has.

        Args:
            steps: of each arm, where the budget is in minutes; see `psa_pose.ablation.timing`.
        """
        return [
            Cell(levels, seed, self._config(arm, seed, steps))
            for seed in self.seeds
            for arm, levels in self.arms.items()
        ]

    @property
    def shown(self) -> tuple[str, ...]:
        """The numbers that are compared; the first one decides."""
        return (self.metric, *self.also)

    def digests(self) -> dict[str, str]:
        """Of the arms' configs, whatever the seed and the budget."""
        return {arm: digest(cfg) for arm, cfg in self.configs.items()}

    def _config(self, arm: str, seed: int, steps: Mapping[str, int] | None) -> Config:
        cfg = deepcopy(self.configs[arm])
        kind, amount = self.budget
        if kind == 'minutes':
            kind, amount = 'steps', (steps or {})[arm]
        spend(cfg, kind, int(amount))
        set_options(cfg, {'randomness.seed': seed})
        return cfg


def read_study(file: str | Path) -> Study:
    """Read a study's file.

    It is a small config: `base` (a config's name), `factors` (see `psa_pose.ablation.factors`),
    `budget=dict(epochs=N)` (or `steps`, or `minutes`: as many steps as each arm makes in that
    time), and at will `baseline` (levels of some factors: arms are compared with the one that has
    these and is like them in the others; default: all with the first level of each), `seeds`,
    `options` of all cells by their path, `metric` and those to show `also`, `rule` ('max' or 'min'
    is better; default by the metric), `title`, `work_dir`.

    Raises:
        ConfigError: an unknown key, factor, level or budget, with the nearest known name; a config
            that cannot be read.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f'no study file {file}')
    try:
        content = Config.fromfile(path, format_python_code=False)._cfg_dict.to_dict()
    except Exception as error:  # a study is a program, and may fail in any way
        raise ConfigError(f'study {path}: {type(error).__name__}: {error}') from error
    for key in content:
        if key not in KEYS and not key.startswith('_'):
            raise ConfigError(f"study {path}: no key '{key}'; {nearest(key, KEYS)}")
    given = {**KEYS, **content}
    for key in ('base', 'factors', 'budget'):
        if given[key] is None:
            raise ConfigError(f"study {path}: '{key}' is missing")
    base = _base(given['base'], path)
    set_options(base, mapping(given['options'], f'study {path}: options'))
    factors = read_factors(mapping(given['factors'], f'study {path}: factors'), f'study {path}')
    metric = str(given['metric'])
    also = (given['also'],) if isinstance(given['also'], str) else tuple(given['also'])
    arms, configs, same = make_arms(base, factors, f'study {path}')
    baseline, by_arm = baselines(given['baseline'], factors, arms, same, f'study {path}')
    return Study(
        file=path,
        title=str(given['title'] or path.stem),
        budget=read_budget(
            mapping(given['budget'], f'study {path}: budget'), f'study {path}: budget'
        ),
        metric=metric,
        also=also,
        less_is_better=_less_is_better(given['rule'], metric, also, path),
        baseline=baseline,
        baselines=by_arm,
        seeds=_seeds(given['seeds'], path),
        work_dir=Path(given['work_dir'] or f'work_dirs/studies/{path.stem}'),
        arms=arms,
        configs=configs,
    )


def _base(name: Any, study: Path) -> Config:
    """A config beside the study, as its `_base_` would be, or one that commands find."""
    beside = study.parent / str(name)
    cfg = load_config(beside if beside.is_file() else str(name))
    for key in ('test_dataloader', 'test_evaluator'):  # a study must not choose by test data
        cfg.pop(key, None)
    return cfg


def _less_is_better(rule: Any, metric: str, also: tuple[str, ...], study: Path) -> frozenset[str]:
    if rule not in (None, 'max', 'min'):
        raise ConfigError(f"study {study}: rule: expected 'max' or 'min', got {rule!r}")
    by_name = {name for name in (metric, *also) if name.rpartition('/')[2] in LESS_IS_BETTER}
    if rule == 'min':
        by_name.add(metric)
    elif rule == 'max':
        by_name.discard(metric)
    return frozenset(by_name)


def _seeds(given: Any, path: Path) -> tuple[int, ...]:
    seeds = tuple(given) if isinstance(given, list | tuple) else ()
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if not seeds or not whole or len(set(seeds)) != len(seeds):
        raise ConfigError(f'study {path}: seeds: expected different whole numbers, got {given!r}')
    return seeds
