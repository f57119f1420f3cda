"""A study's table as text, Markdown, CSV, JSON and HTML."""

import csv
import html
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from psa_pose.ablation.statistics import Difference, interval_text, verdict
from psa_pose.ablation.study import Study
from psa_pose.ablation.summary import Row, Summary


def as_text(summary: Summary) -> Table:
    """For a terminal."""
    table = Table(title=summary.study.title)
    head, rows = _cells(summary)
    for i, name in enumerate(head):
        table.add_column(name, justify='left' if i == 0 else 'right')
    for row, words in zip(summary.rows, rows, strict=True):
        table.add_row(*words, style='dim' if summary.study.baselines[row.arm] == row.arm else None)
    return table


def as_csv(summary: Summary) -> str:
    """Every number of every seed, a row a cell, and a row an arm with what was computed of them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    study, factors = summary.study, list(summary.rows[0].levels)
    computed = [f'{name} {what}' for name in study.shown for what in _COMPUTED]
    computed += ['step ms', 'step ratio']
    writer.writerow([*factors, 'seed', *summary.metrics, 'parameters', *computed])
    for row in summary.rows:
        levels = [row.levels[factor] for factor in factors]
        for seed in sorted(row.values[study.metric]):
            numbers = [row.values[metric].get(seed, '') for metric in summary.metrics]
            writer.writerow([*levels, seed, *numbers, row.parameters, *[''] * len(computed)])
        means = [row.mean(metric) for metric in summary.metrics]
        found = [part for name in study.shown for part in _computed(row, name, study)]
        writer.writerow([*levels, 'mean', *means, row.parameters, *found, *(row.step or ('', ''))])
    return file.getvalue()


_COMPUTED = ('gain', 'low', 'high', 'seed low', 'seed high', 'verdict')


def _computed(row: Row, name: str, study: Study) -> tuple[Any, ...]:
    """The cells of `_COMPUTED`."""
    gain, nothing = row.gains.get(name), ('', '')
    if gain is None:
        return ('',) * len(_COMPUTED)
    judged = verdict(gain, name in study.less_is_better)
    return (gain.mean, *(gain.interval or nothing), *(gain.seed_interval or nothing), judged)


def as_json(summary: Summary) -> str:
    """Every number, for other programs."""
    rows = [
        {
            'arm': row.arm,
            'levels': dict(row.levels),
            'values': {n: {str(s): v for s, v in by.items()} for n, by in row.values.items()},
            'gains': {name: vars(gain) for name, gain in row.gains.items()},
            'parameters': row.parameters,
            'step': row.step,
            'failed': row.failed,
            'missing': row.missing,
        }
        for row in summary.rows
    ]
    content = {
        'study': summary.study.title,
        'baselines': dict(summary.study.baselines),
        'rows': rows,
    }
    return json.dumps({**content, 'about': summary.about}, indent=1, default=str) + '\n'


def as_html(summary: Summary, plot: str) -> str:
    """A page of its own, without anything from elsewhere.

    Args:
        summary: of the study.
        plot: an SVG.
    """
    head, rows = _cells(summary)
    title = html.escape(summary.study.title)
    lines = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>',
        '<div class="wide"><table><thead><tr>',
        *(f'<th>{html.escape(name)}</th>' for name in head),
        '</tr></thead><tbody>',
    ]
    for row, words in zip(summary.rows, rows, strict=True):
        kind = ' class="baseline"' if summary.study.baselines[row.arm] == row.arm else ''
        cells = ''.join(f'<td>{html.escape(word)}</td>' for word in words)
        lines.append(f'<tr{kind}>{cells}</tr>')
    lines += ['</tbody></table></div>', '<ul>']
    lines += [f'<li>{html.escape(text)}</li>' for text in summary.sentences]
    lines += ['</ul>', f'<figure>{plot}</figure>', '<h2>About these numbers</h2><ul>']
    lines += [f'<li>{html.escape(text)}</li>' for text in summary.about]
    return '\n'.join([*lines, '</ul></html>', ''])


def as_markdown(summary: Summary, plot: str) -> str:
    """For a page of documentation, or a pull request.

    Args:
        summary: of the study.
        plot: the name of its file.
    """
    head, rows = _cells(summary)
    lines = [f'# {summary.study.title}', '', _line(head)]
    lines += [_line([':---', *['---:'] * (len(head) - 1)])]
    lines += [_line(words) for words in rows]
    lines += ['', *(f'- {text}' for text in summary.sentences)]
    lines += ['', f'![Accuracy against the cost of a step]({plot})', '']
    return '\n'.join([*lines, *(f'- {text}' for text in summary.about), ''])


def _line(words: Sequence[str]) -> str:
    return '| ' + ' | '.join(word.replace('|', r'\|') for word in words) + ' |'


def _cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Titles and words of the table."""
    study = summary.study
    head = ['arm', study.metric, 'gain', '', '95 %, images and seeds', '95 %, seeds alone']
    for name in study.also:
        head += [name, 'gain']
    head += ['parameters', 'step', 'note']
    rows = [_words(row, study) for row in summary.rows]
    if not any(words[-1] for words in rows):
        head.pop()
        rows = [words[:-1] for words in rows]
    return head, rows


def _words(row: Row, study: Study) -> list[str]:
    name = study.metric
    gain = row.gains.get(name)
    notes = [f'seed {seed} failed' for seed in row.failed]
    notes += [f'seed {seed} not finished' for seed in row.missing]
    also: list[str] = []
    for other in study.also:
        also += [_value(row, other), ' '.join(_gain(row, other, study)).strip()]
    return [
        row.arm,
        _value(row, name),
        *_gain(row, name, study),
        *_intervals(gain),
        *also,
        f'{row.parameters / 1e6:.2f} M' if row.parameters else '',
        f'{row.step[0]:.0f} ms, {row.step[1]:.2f}x' if row.step else '',
        ', '.join(notes),
    ]


def _gain(row: Row, name: str, study: Study) -> tuple[str, str]:
    """The difference, and what may be said of it."""
    gain = row.gains.get(name)
    if gain is None:
        return '', ''
    return f'{gain.mean:+.4f}', verdict(gain, name in study.less_is_better)


def _value(row: Row, name: str) -> str:
    mean, spread = row.mean(name), row.spread(name)
    if math.isnan(mean):
        return ''
    decimals = 4 if abs(mean) < 10 else 2  # a share, or pixels
    text = f'{mean:.{decimals}f}'
    return text if math.isnan(spread) else f'{text} ± {spread:.{decimals}f}'


def _intervals(gain: Difference | None) -> list[str]:
    pairs = (gain.interval, gain.seed_interval) if gain else (None, None)
    return [interval_text(pair) if pair else '' for pair in pairs]


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td:nth-child(4) { text-align: left; }
thead { border-bottom: 2px solid; } tr + tr { border-top: 1px solid #8884; }
.baseline { font-style: italic; }
figure { margin: 1rem 0; background: white; } figure svg { max-width: 100%; height: auto; }
"""
