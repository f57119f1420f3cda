"""What a study found: a row an arm, with what of it may be noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.ablation.cell import FAILED, PREDICTIONS, finished
from psa_pose.ablation.predictions import load_predictions
from psa_pose.ablation.resampling import resampler
from psa_pose.ablation.statistics import Difference, difference, resampled, sentence
from psa_pose.ablation.study import Cell, Study
from psa_pose.engine import build
from psa_pose.errors import ResultError, nearest


@dataclass(frozen=True)
class Row:
    """One arm.

    Attributes:
        values: of each number by seed.
        gains: differences to the baseline, of the deciding number and of those shown beside it;
            empty for the baseline and for an arm that shares no finished seed with it.
        parameters: of its model.
        step: milliseconds of a training step, and the ratio to the baseline's; None where steps
            were not timed.
        failed: seeds whose cells failed.
        missing: seeds that are not finished yet.
    """

    arm: str
    levels: Mapping[str, Any]
    values: Mapping[str, Mapping[int, float]]
    gains: Mapping[str, Difference]
    parameters: int | None
    step: tuple[float, float] | None
    failed: tuple[int, ...]
    missing: tuple[int, ...]

    def mean(self, name: str) -> float:
        """Over seeds; nan where there is none."""
        values = list(self.values.get(name, {}).values())
        return float(np.mean(values)) if values else float('nan')

    def spread(self, name: str) -> float:
        """Standard deviation over seeds; nan with fewer than two."""
        values = list(self.values.get(name, {}).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float('nan')


@dataclass(frozen=True)
class Summary:
    """All arms, and what a reader must know of them."""

    study: Study
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    about: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What may be said of each arm, in plain words."""
        name, base = self.study.metric, self.study.baselines
        less = name in self.study.less_is_better
        gains = [(row.arm, row.gains[name]) for row in self.rows if name in row.gains]
        lines = [sentence((arm, base[arm]), name, gain, less) for arm, gain in gains]
        every = [gain for row in self.rows for gain in row.gains.values()]
        count = sum(gain.seed_interval is not None for gain in every)
        if count > 1:
            lines.append(
                f'{count} comparisons, each wrong about once in 20 where there is no '
                'difference: confirm the best one with seeds that this study did not have.'
            )
        return lines


def summarise(
    study: Study,
    folder: Path,
    cells: list[Cell],
    times: tuple[Mapping[str, Mapping[str, float]], str],
    mixed: Mapping[str, list[str]],
) -> Summary:
    """Read the cells that are finished.

    Args:
        study: whose cells.
        folder: of the study.
        cells: all of them.
        times: see `step_times`.
        mixed: by finished cell, what of its provenance differs from what is here.

    Raises:
        ResultError: no cell gives the study's metric.
    """
    done = {cell.name: finished(folder / cell.name) for cell in cells}
    ready = {name: found for name, found in done.items() if found}
    metrics = _metrics(ready, study.metric)
    by_arm: dict[str, list[Cell]] = {arm: [] for arm in study.arms}
    for cell in cells:
        by_arm[cell.arm].append(cell)
    draws = _draws(study, folder, [c for c in cells if c.name in ready])
    shown = [name for name in study.shown if name in metrics]
    rows = []
    for arm, own in by_arm.items():
        values = {name: _values(own, ready, name) for name in metrics}
        gains = _gains(shown, own, by_arm[study.baselines[arm]], ready, draws)
        finished_here = [ready[c.name] for c in own if c.name in ready]
        failed = tuple(c.seed for c in own if (folder / c.name / FAILED).exists())
        time = times[0].get(arm)
        rows.append(
            Row(
                arm=arm,
                levels=study.arms[arm],
                values=values,
                gains=gains,
                parameters=finished_here[0]['parameters'] if finished_here else None,
                step=(time['seconds'] * 1e3, time['ratio']) if time else None,
                failed=failed,
                missing=tuple(c.seed for c in own if c.name not in ready and c.seed not in failed),
            )
        )
    return Summary(study, tuple(rows), metrics, _about(study, cells, ready, mixed, times[1]))


def _metrics(ready: Mapping[str, Mapping[str, Any]], wanted: str) -> tuple[str, ...]:
    if not ready:
        return (wanted,)
    numbers = next(iter(ready.values()))['metrics']
    names = [name for name, value in numbers.items() if isinstance(value, int | float)]
    if wanted not in names:
        raise ResultError(
            f"the study's metric '{wanted}': cells have none; {nearest(wanted, names)}"
        )
    return (wanted, *(name for name in names if name != wanted))


def _values(
    cells: list[Cell], ready: Mapping[str, Mapping[str, Any]], name: str
) -> dict[int, float]:
    return {c.seed: float(ready[c.name]['metrics'][name]) for c in cells if c.name in ready}


def _gains(
    names: list[str],
    arm: list[Cell],
    baseline: list[Cell],
    ready: Mapping[str, Mapping[str, Any]],
    draws: Mapping[tuple[str, str], np.ndarray],
) -> dict[str, Difference]:
    """Over the seeds that both have; none for the baseline itself."""
    of_seed = {cell.seed: cell for cell in baseline if cell.name in ready}
    pairs = [(c, of_seed[c.seed]) for c in arm if c.name in ready and c.seed in of_seed]
    if not pairs or arm is baseline:
        return {}
    gains = {}
    for name in names:
        ours, theirs = (_values([pair[i] for pair in pairs], ready, name) for i in (0, 1))
        more = None
        if all((name, cell.name) in draws for pair in pairs for cell in pair):
            more = {c.seed: draws[name, c.name] - draws[name, base.name] for c, base in pairs}
        gains[name] = difference(ours, theirs, more)
    return gains


def _draws(study: Study, folder: Path, cells: list[Cell]) -> dict[tuple[str, str], np.ndarray]:
    """By number and finished cell the number on resampled images, where it can be had."""
    found: dict[tuple[str, str], np.ndarray] = {}
    images: dict[str, np.ndarray] = {}
    for cell in cells:
        dataset = build.build_dataset(cell.config, 'val_dataloader')
        metric = build.build_metric(cell.config, 'val_evaluator', dataset)
        load_predictions(metric, folder / cell.name / PREDICTIONS)
        readers = {name: resampler(metric, name) for name in study.shown}
        measured = metric.compute()
        for name, reader in readers.items():
            if reader is None:
                continue
            ids = reader.image_ids
            if not np.array_equal(images.setdefault(name, ids), ids):
                raise ResultError(f'{cell.name} was evaluated on other images than cells before it')
            # With every image once it must be the very number; else it would be the wrong interval.
            value = float(reader.values(np.ones((1, len(ids))))[0])
            if abs(value - measured[name]) > 1e-6:
                numbers = f'{value:.6f} resampled, but {measured[name]:.6f} measured'
                raise ResultError(f'{cell.name}: {name} {numbers}')
            found[name, cell.name] = resampled(reader)
    return found


def _about(
    study: Study,
    cells: list[Cell],
    ready: Mapping[str, Mapping[str, Any]],
    mixed: Mapping[str, list[str]],
    timed_on: str,
) -> tuple[str, ...]:
    lines = [
        f'{study.file.name}: budget {study.budget[1]:g} {study.budget[0]}, seeds '
        f'{", ".join(map(str, study.seeds))}; a gain is against '
        f'{", ".join(sorted(set(study.baselines.values())))}'
    ]
    if study.budget[0] == 'minutes':
        steps = {cell.arm: cell.config.trainer['max_steps'] for cell in cells}
        lines.append('steps: ' + ', '.join(f'{arm} {count}' for arm, count in steps.items()))
    origins = [found['provenance'] for found in ready.values()]
    for key in ('commit', 'machine', 'torch', 'step'):
        if values := sorted({str(origin.get(key)) for origin in origins}):
            lines.append(f'{key}: {", ".join(values)}')
    for name in ('train', 'val'):
        if values := sorted({origin['data'][name].rpartition(',')[0] for origin in origins}):
            lines.append(f'{name}: {"; ".join(values)}')
    if boxes := sorted({str(found['metrics'].get('boxes')) for found in ready.values()}):
        lines.append(f'boxes: {", ".join(boxes)}')
    if ready:
        hours = sum(found['seconds'] for found in ready.values()) / 3600
        lines.append(f'{len(ready)} cells, {hours:.2f} hours of training')
    if timed_on:
        lines.append(
            f'step times: side by side on {timed_on}, without data loading; x is {study.baseline}'
        )
    by_line: dict[str, list[str]] = {}
    for name, found in mixed.items():
        for line in found:
            by_line.setdefault(line, []).append(name)
    lines += [f'MIXED {line} ({", ".join(names)})' for line, names in by_line.items()]
    return tuple(lines)
