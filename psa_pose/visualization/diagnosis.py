"""Plots of an error diagnosis."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psa_pose.evaluation.diagnosis.diagnose import OUTCOMES, Diagnosis
from psa_pose.files import replaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours (2008), as skeletons have them; grey for what is right.
COLORS = {
    'good': '#d9d9d9',
    'jitter': '#56b4e9',
    'inversion': '#009e73',
    'swap': '#e69f00',
    'miss': '#d55e00',
    'missed person': '#000000',
    'score': '#f0e442',
    'background': '#cc79a7',
    'duplicate': '#0072b2',
}
_DIVISIONS = {
    'size': 'size (COCO)',
    'quartile': 'size in pixels (quartiles)',
    'crowding': 'overlapping persons',
    'keypoints': 'labelled keypoints',
}


def plot_diagnosis(diagnosis: Diagnosis, folder: Path) -> list[Path]:
    """Write `keypoints.png`, `cured.png` and `groups.png`; returns their paths."""
    written = []
    for name, draw in (('keypoints', _keypoints), ('cured', _cured), ('groups', _groups)):
        figure = draw(diagnosis)
        with replaced(folder / f'{name}.png') as partial:
            figure.savefig(partial, dpi=130)
        written.append(folder / f'{name}.png')
    return written


def new_figure(width: float, height: float) -> 'Figure':
    """A figure that needs neither a display nor pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _keypoints(diagnosis: Diagnosis) -> 'Figure':
    """Stacked bars: the share of each keypoint's labels by kind of error; AP at the right."""
    names = list(diagnosis.keypoints)
    figure = new_figure(10, 1.6 + 0.32 * len(names))
    axes = figure.subplots()
    rows = [diagnosis.keypoints[name] for name in names]
    _stacked(axes, [name.replace('_', ' ') for name in names], rows, OUTCOMES[1:])
    for y, row in enumerate(rows):
        text = f'AP {row["AP"]:.3f}   n = {row["labelled"]:,}' if row['labelled'] else 'no labels'
        axes.text(1.01, y, text, va='center', fontsize=9, transform=axes.get_yaxis_transform())
    axes.set_xlabel('share of labelled keypoints')
    figure.suptitle(f'Errors by keypoint (AP {diagnosis.ap["AP"]:.3f})', fontweight='bold')
    _legend(figure, axes)
    return figure


def _cured(diagnosis: Diagnosis) -> 'Figure':
    """Two panels: AP with one kind cured, and with one kind after the other."""
    figure = new_figure(11, 4.8)
    alone, together = figure.subplots(1, 2, sharex=True)
    base = diagnosis.ap['AP']
    kinds = list(diagnosis.cured)
    order = sorted(kinds, key=lambda kind: diagnosis.cured[kind]['gain'], reverse=True)
    for axes, names, key, title in (
        (alone, order, 'alone', 'each kind alone'),
        (together, kinds, 'after', 'one kind after the other'),
    ):
        last = base
        for y, kind in enumerate(names):
            after = diagnosis.cured[kind][key]
            start = base if key == 'alone' else last
            axes.barh(y, start, color=COLORS['good'])
            axes.barh(y, after - start, left=start, color=COLORS[kind])
            text = f'{after:.3f} ({after - start:+.3f})'
            axes.text(max(after, start) + 0.01, y, text, va='center', fontsize=9)
            last = after
        axes.axvline(base, color='black', linewidth=1, linestyle='--')
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(title=title, xlabel='AP', xlim=(0, 1.28))
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        _plain(axes)
    figure.suptitle(f'AP if errors were cured (dashed: as it is, {base:.3f})', fontweight='bold')
    return figure


def _groups(diagnosis: Diagnosis) -> 'Figure':
    """A column for each division of persons: AP above, shares of errors below."""
    divisions = list(diagnosis.groups)
    widths = [len(diagnosis.groups[name]) + 0.8 for name in divisions]
    figure = new_figure(1.6 + 0.8 * sum(widths), 6.4)
    grid = figure.subplots(2, len(divisions), width_ratios=widths, squeeze=False, sharey='row')
    for column, division in enumerate(divisions):
        above, below = grid[:, column]
        parts = diagnosis.groups[division]
        names = [name.replace(' to ', '–') for name in parts]
        labels = [f'{n}\nn={r["persons"]:,}' for n, r in zip(names, parts.values(), strict=True)]
        values = [max(row['AP'], 0) for row in parts.values()]
        above.bar(range(len(parts)), values, color=COLORS['duplicate'], width=0.7)
        for x, row in enumerate(parts.values()):
            # At the foot of the bar, where the dashed line does not cross it.
            inside = row['AP'] > 0.1
            text = f'{row["AP"]:.3f}' if row['AP'] >= 0 else 'no AP'
            place, color = (0.02, 'white') if inside else (max(row['AP'], 0) + 0.01, 'black')
            above.text(x, place, text, ha='center', fontsize=9, color=color)
        # Of all persons by the same rule: background counts for COCO's sizes alone.
        everyone = diagnosis.cured['background']['alone']
        line = diagnosis.ap['AP'] if division == 'size' else everyone
        above.axhline(line, color='black', linewidth=1, linestyle='--')
        above.set(title=_DIVISIONS[division], ylim=(0, 1.08))
        above.set_xticks([])
        _stacked(below, labels, list(parts.values()), OUTCOMES[1:], upright=True)
        for axes in (above, below):
            _plain(axes)
    grid[0, 0].set_ylabel('AP (dashed: all persons)')
    grid[1, 0].set_ylabel('share of labelled keypoints')
    figure.suptitle('Errors by kind of person', fontweight='bold')
    _legend(figure, grid[1, 0])
    return figure


def _stacked(
    axes: 'Axes',
    labels: list[str],
    rows: list[dict[str, Any]],
    kinds: tuple[str, ...],
    upright: bool = False,
) -> None:
    """Bars of shares, each of all outcomes of its row; only `kinds` are drawn."""
    totals = [max(sum(row[name] for name in OUTCOMES), 1) for row in rows]
    starts = [0.0] * len(rows)
    for kind in kinds:
        shares = [row[kind] / total for row, total in zip(rows, totals, strict=True)]
        style: dict[str, Any] = {'color': COLORS[kind], 'label': kind, 'edgecolor': 'white'}
        if upright:
            axes.bar(range(len(rows)), shares, 0.7, bottom=starts, linewidth=0.5, **style)
        else:
            axes.barh(range(len(rows)), shares, 0.75, left=starts, linewidth=0.5, **style)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    if upright:
        axes.set_xticks(range(len(rows)), labels, fontsize=9)
    else:
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        _plain(axes)
    _percent(axes, upright)


def _percent(axes: 'Axes', upright: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if upright else axes.xaxis).set_major_formatter(PercentFormatter(1, decimals=0))


def _plain(axes: 'Axes') -> None:
    axes.spines[['top', 'right']].set_visible(False)


def _legend(figure: 'Figure', axes: 'Axes') -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels), frameon=False)
