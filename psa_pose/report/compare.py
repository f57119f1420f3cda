"""Several runs beside each other: numbers only where they may stand beside each other."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from psa_pose.evaluation.keypoint_metrics import LESS_IS_BETTER
from psa_pose.report.about import warnings
from psa_pose.report.charts import Series, chart_grid, line_chart
from psa_pose.report.compare_persons import same_persons
from psa_pose.report.html import Html, join, notices, section, table, tag
from psa_pose.report.numbers import columns, shown, unit
from psa_pose.report.persons import analyse
from psa_pose.report.rows import kinds, rows_of, training_kind
from psa_pose.report.run import Run
from psa_pose.report.sections import CHARTS, evaluation_chart, model_text, progress


def comparison(runs: list[Run]) -> Html:
    """All sections."""
    analyses = [analyse(run) for run in runs]
    header = tag(
        'header',
        tag('p', 'PSA-Pose', class_='dim'),
        tag('h1', f'{len(runs)} runs beside each other'),
    )
    return join(
        [
            header,
            notices(_not_comparable(runs), 'stop'),
            _numbers(runs),
            _setups(runs),
            _curves(runs),
            section('Config differences', _differences(runs)),
            *same_persons(runs, analyses),
            _said(runs),
        ]
    )


def _not_comparable(runs: list[Run]) -> Iterator[str]:
    """Where there is no way of measuring that all runs have."""
    own = [kinds(rows_of(run, ends=True)) for run in runs]
    measured = [(run, found) for run, found in zip(runs, own, strict=True) if found]
    if len(measured) < 2 or set.intersection(*(set(found) for _, found in measured)):
        return
    yield (
        'Not comparable: these runs were not measured in the same way, so their numbers stand in '
        'tables of their own'
    )
    for run, found in measured:
        yield f'{run.name}: {"; ".join(map(str, found))}'


def _numbers(runs: list[Run]) -> Html:
    rows = [(run, row) for run in runs for row in rows_of(run, ends=True)]
    parts: list[Any] = []
    for kind in kinds([row for _, row in rows]):
        own = [(run, row) for run, row in rows if row.kind == kind]
        names = columns([row.metrics for _, row in own])
        # Of one run's own rows the best is no news.
        several = len({run.name for run, _ in own}) > 1
        top = {n: max(row.metrics.get(n, -1) for _, row in own) if several else None for n in names}
        cells = [
            (
                f'{run.name}: {row.where}',
                *(_cell(run, n, row.metrics.get(n), top[n]) for n in names),
            )
            for run, row in own
        ]
        head = ['run', *(unit(own[0][0], n) for n in names)]
        parts.append(table(head, cells, caption=str(kind)))
    without = [run.name for run in runs if not rows_of(run, ends=True)]
    if without:
        parts.append(notices([f'no evaluation yet: {", ".join(without)}'], 'note'))
    return section('Numbers', *parts)


def _cell(run: Run, name: str, value: Any, top: float | None) -> Any:
    text = shown(run, name, value)
    rises = name.rpartition('/')[2] not in LESS_IS_BETTER
    return tag('b', text) if rises and value == top and text != '–' else text


def _setups(runs: list[Run]) -> Html:
    rows = []
    for i, run in enumerate(runs):
        speed = run.curves.get('samples_per_s')
        gpus = run.environment.get('gpus') or []
        device = gpus[0] if run.environment.get('device') == 'cuda' and gpus else ''
        rows.append(
            (
                tag('span', tag('i', class_=f'fill key s{i % 8}'), ' ', run.name, class_='one'),
                model_text(run),
                progress(run),
                device or run.environment.get('cpu') or 'unknown',
                f'{np.median(speed.values):,.0f}' if speed is not None else '–',
            )
        )
    head = ['run', 'model', 'progress', 'device', 'samples/s']
    return section('Runs', table(head, rows, left=4, wrap=True))


def _curves(runs: list[Run]) -> Html:
    charts = [
        line_chart(
            title,
            [
                Series(
                    run.name, run.curves[name].steps, run.curves[name].values * factor, smooth, i
                )
                for i, run in enumerate(runs)
                if name in run.curves
            ],
            **options,
        )
        for title, name, factor, smooth, options in CHARTS
        if any(name in run.curves for run in runs)
    ]
    measured = [(i, run, training_kind(run)) for i, run in enumerate(runs) if run.history]
    for kind in dict.fromkeys(kind for _, _, kind in measured):
        own = [(i, run) for i, run, its in measured if its == kind]
        chart = evaluation_chart([run for _, run in own], [i for i, _ in own])
        if chart:
            charts.insert(1, tag('div', chart, tag('p', kind, class_='dim')))
    if not charts:
        return section('Curves', tag('p', 'No run has event files to read.', class_='missing'))
    return section('Curves', chart_grid(charts))


def _differences(runs: list[Run]) -> Html:
    """Only what differs; 'not set' where a config lacks it."""
    flat = [dict(_leaves(run.config)) for run in runs]
    unread = [run.name for run in runs if not run.config]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    rows = [
        (_code(key), *(_code(leaves.get(key, 'not set')) for leaves in flat))
        for key in keys
        if len({leaves.get(key) for leaves in flat}) > 1
        # A place, and names of helpers, which nothing reads.
        and not key.startswith(('work_dir', '_'))
    ]
    note = notices([f'no config could be read of {", ".join(unread)}'] if unread else [], 'note')
    if not rows:
        return join([note, tag('p', 'The configs are the same.')])
    names = [run.name for run in runs]
    return join([note, table(['key', *names], rows, left=1 + len(runs), wrap=True)])


def _code(text: str) -> Html:
    """May be broken behind a dot, a slash or an underscore."""
    parts = re.split(r'(?<=[._/])', text)
    return tag('code', *(part for p in parts for part in (p, tag('wbr'))))


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
    """'a.b.0.c' and the value there as text, as `--cfg-options` names them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f'{path}.{key}' if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, dict | list) for v in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f'{path}.{i}')
    else:
        yield path, repr(value)


def _said(runs: list[Run]) -> Html | None:
    """Each run's warnings and what is missing of it."""
    parts = []
    for run in runs:
        own = [warnings(run), notices((f'Missing: {text}' for text in run.missing), 'note')]
        if any(own):
            parts += [tag('h3', run.name), *own]
    return section('Warnings', *parts) if parts else None
