"""A study's plot: accuracy against what a step costs."""

import io
from typing import Any

from psa_pose.ablation.summary import Row, Summary
from psa_pose.visualization.diagnosis import new_figure

# Okabe and Ito's colours (2008), as all plots here have them.
_BASELINE, _ARM = '#000000', '#0072b2'


def accuracy_against_cost(summary: Summary) -> str:
    """An SVG: every seed as a small dot, every arm's mean as a large one with its name beside.

    The axis of cost is the ratio of a step to the baseline's; without timings, parameters.
    """
    name = summary.study.metric
    timed = all(row.step for row in summary.rows)
    rows = [row for row in summary.rows if row.values[name]]
    figure = new_figure(8, max(4.5, 0.3 * len(rows)))
    axes = figure.subplots()
    for row in rows:
        values = list(row.values[name].values())
        color = _BASELINE if summary.study.baselines[row.arm] == row.arm else _ARM
        cost = _cost(row, timed)
        axes.scatter([cost] * len(values), values, s=14, color=color, alpha=0.5, linewidths=0)
        axes.scatter([cost], [row.mean(name)], s=60, color=color)
    axes.set_xlabel('training step, times the baseline' if timed else 'parameters in millions')
    axes.set_ylabel(name)
    axes.margins(0.08)
    axes.spines[['top', 'right']].set_visible(False)
    for row, height in zip(rows, _heights([row.mean(name) for row in rows], axes), strict=True):
        axes.annotate(
            row.arm,
            (_cost(row, timed), row.mean(name)),
            xytext=(1.02, height),
            textcoords='axes fraction',
            fontsize=9,
            va='center',
            annotation_clip=False,
            arrowprops={'arrowstyle': '-', 'color': '#999999', 'linewidth': 0.5},
        )
    axes.set_title(summary.study.title, pad=12)
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None})
    return file.getvalue()[file.getvalue().index('<svg') :]


def _cost(row: Row, timed: bool) -> float:
    return row.step[1] if timed and row.step else (row.parameters or 0) / 1e6


def _heights(values: list[float], axes: Any) -> list[float]:
    """Where names stand beside the plot, as shares of its height: as near as they can be read."""
    low, high = axes.get_ylim()
    apart = min(0.055, 1 / max(1, len(values)))
    heights = [0.0] * len(values)
    at = -apart
    for i in sorted(range(len(values)), key=lambda i: values[i]):
        at = heights[i] = max(at + apart, (values[i] - low) / (high - low))
    ceiling = 1.0
    for i in sorted(range(len(values)), key=lambda i: -heights[i]):  # back down from the top
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - apart
    return heights
