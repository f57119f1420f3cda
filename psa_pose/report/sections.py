"""The parts of a run's page, each from the run alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from psa_pose.report.charts import Series, chart_grid, line_chart
from psa_pose.report.html import Html, join, notices, section, table, tag
from psa_pose.report.numbers import columns, in_percent, references, shown, unit
from psa_pose.report.rows import kinds, rows_of
from psa_pose.report.run import Evaluation, Run, number


def headline(run: Run) -> Html:
    """What was trained, how far, and how good it is, with the boxes' source."""
    name = run.main
    tiles = [
        (shown(run, name, row.metrics.get(name)), f'{unit(run, name)}, {row.where}', row.kind)
        for row in rows_of(run, ends=True)
    ]
    return tag(
        'header',
        tag('p', 'PSA-Pose run', class_='dim'),
        tag('h1', run.name),
        tag('p', model_text(run)),
        tag(
            'div',
            *(
                tag('div', tag('b', v), tag('span', text), tag('span', f'boxes: {kind.boxes}'))
                for v, text, kind in tiles
            ),
            class_='lead',
        ),
        tag('p', progress(run), class_='dim'),
    )


def model_text(run: Run) -> str:
    """The model in a line."""
    backbone = (run.config.get('model') or {}).get('backbone') or {}
    codec = run.config.get('codec') or {}
    options = [str(backbone[key]) for key in ('arch', 'depth') if key in backbone]
    size = codec.get('input_size')
    parts = [' '.join([str(backbone.get('type', 'Unknown model')), *options])]
    parts.append(f'attention: {run.attention}')
    if isinstance(size, list | tuple) and len(size) == 2:
        parts.append(f'crop {size[0]}x{size[1]} (width x height)')
    parts += [str(codec['type'])] if codec.get('type') else []
    if isinstance(run.environment.get('parameters'), int):
        parts.append(f'{run.environment["parameters"] / 1e6:.2f} M parameters')
    return ', '.join(parts)


def progress(run: Run) -> str:
    """How far it went; a run that ended early says so."""
    curve = run.curves.get('loss')
    steps = max([int(curve.steps[-1])] if curve else [], default=0)
    steps = max([steps, *(entry['step'] for entry in run.history)])
    if not steps:
        return 'No training here.' if run.test else 'Not one step has been logged.'
    epoch = run.curves.get('epoch')
    epochs = [entry['epoch'] for entry in run.history if entry['epoch']]
    epochs += [int(epoch.values[-1]) + 1] if epoch else []
    done = max(epochs, default=0)
    last = run.history[-1] if run.history else {'epoch': 0, 'step': 0}
    if last['epoch'] == run.max_epochs:
        return f'Complete: {run.max_epochs} epochs, {steps:,} steps.'
    if last['step'] == run.max_steps:
        return f'Complete: {steps:,} steps, {done} epochs begun.'
    of = f' of {run.max_epochs}' if run.max_epochs and not run.max_steps else ''
    of_steps = f' of {run.max_steps:,}' if run.max_steps else ''
    return f'Unfinished or still running: in epoch {done}{of} at step {steps:,}{of_steps}.'


def numbers(run: Run) -> Html:
    """A table for each way in which the run was measured, published rows beside it."""
    rows = rows_of(run)
    if not rows:
        return section('Numbers', tag('p', 'There was no evaluation yet.', class_='missing'))
    parts: list[Any] = []
    for kind in kinds(rows):
        own = [row for row in rows if row.kind == kind]
        names = columns([row.metrics for row in own])
        cells = [
            (
                tag('span', row.where, class_='best') if row.best else row.where,
                *(shown(run, name, row.metrics.get(name)) for name in names),
            )
            for row in own
        ]
        head = ['evaluation', *(unit(run, name) for name in names)]
        parts.append(table(head, cells, caption=str(kind)))
        if evaluation := own[-1].evaluation:
            titles = [t.get('title') for t in evaluation.tables if t.get('title') != 'By joint']
            parts += [tag('p', f'{own[-1].where}: {title}', class_='dim') for title in titles]
            parts.append(_references(run, evaluation))
    return section('Numbers', *parts)


def _references(run: Run, evaluation: Evaluation) -> Html:
    rows, notes = references(run, evaluation)
    if not rows:
        return join([notices(notes)])
    what = 'PCKh' if evaluation.about.get('dataset') == 'MpiiDataset' else 'AP'
    caption = 'Published rows of this model, measured with the same kind of boxes'
    return join([table(['source', f'{what}, %', 'AR, %'], rows, caption=caption), notices(notes)])


def curves(run: Run) -> Html:
    """Loss, learning rate, the main number, speed and waiting."""
    charts = [
        line_chart(title, [Series(run.name, curve.steps, curve.values * factor, smooth)], **options)
        for title, tag_, factor, smooth, options in CHARTS
        if (curve := run.curves.get(tag_)) is not None
    ]
    if chart := evaluation_chart([run]):
        charts.insert(1, chart)
    if not charts:
        return section('Curves', tag('p', 'There are no event files to read.', class_='missing'))
    return section('Curves', chart_grid(charts))


CHARTS: tuple[tuple[str, str, float, bool, dict[str, Any]], ...] = (
    ('Loss', 'loss', 1, True, {'log': True}),
    ('Learning rate', 'lr', 1, False, {'zero': True}),
    ('Speed', 'samples_per_s', 1, True, {'unit': 'samples/s', 'zero': True}),
    ('Waiting for data', 'data_wait', 100, True, {'unit': '% of the time', 'zero': True}),
)


def evaluation_chart(runs: list[Run], colors: Sequence[int | None] = (None,)) -> Html | None:
    """The main number over steps; None where no run has one."""
    series, name = [], runs[0].main
    alone = colors == (None,)
    others = [n for n in ('AP50', 'AP75', 'AR') if alone and name == 'AP']
    for run, color in zip(runs, colors, strict=True):
        for one in [name, *others]:
            known = [e for e in run.history if number(e['metrics'].get(one))]
            if known:
                scale = in_percent(run, one) or 1
                series.append(
                    Series(
                        one if alone else run.name,
                        np.array([e['step'] for e in known]),
                        scale * np.array([e['metrics'][one] for e in known]),
                        color=color,
                    )
                )
    if not series:
        return None
    return line_chart(f'Evaluation: {unit(runs[0], name)}', series)
