"""Line charts as inline SVG: sharp, small, in the page's colours, dark ones too."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from psa_pose.report.html import Html, join, tag

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 12, 40
_POINTS = 400  # more would not be told apart


_Scale: TypeAlias = Callable[[np.ndarray], np.ndarray]
_Place: TypeAlias = Callable[[np.ndarray, np.ndarray], list[tuple[float, float]]]


class Series(NamedTuple):
    """A line."""

    name: str
    x: np.ndarray
    y: np.ndarray
    smooth: bool = False
    """Draw the line smoothed, over the points as they are."""
    color: int | None = None
    """Which of the colours; by default by its place."""


def line_chart(
    title: str, series: Sequence[Series], *, unit: str = '', log: bool = False, zero: bool = False
) -> Html:
    """A figure of lines over steps.

    Args:
        title: above it.
        series: one or more; those without points are left out.
        unit: of y.
        log: a logarithmic axis, where all values are above 0.
        zero: y begins at 0.
    """
    series = [s for s in series if len(s.x)]
    if not series:
        return tag('figure', tag('figcaption', title), tag('p', 'no points', class_='missing'))
    values = np.concatenate([s.y for s in series])
    log = log and bool((values > 0).all()) and values.max() > 4 * values.min()
    to_y, y_ticks = _axis(values, log, zero)
    low, high = min(s.x[0] for s in series), max(s.x[-1] for s in series)
    span = max(high - low, 1)

    def place(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
        across = _LEFT + (x - low) / span * (_WIDTH - _LEFT - _RIGHT)
        up = _HEIGHT - _BOTTOM - to_y(y) * (_HEIGHT - _TOP - _BOTTOM)
        return list(zip(across.tolist(), up.tolist(), strict=True))

    parts: list[Html] = []
    for value, text in y_ticks:
        (_, y) = place(np.array([low]), np.array([value]))[0]
        parts.append(tag('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f'{y:.1f}', y2=f'{y:.1f}'))
        parts.append(tag('text', text, x=_LEFT - 6, y=f'{y + 4:.1f}', text_anchor='end'))
    for value in _ticks(low, high, 5):
        (x, _) = place(np.array([value]), values[:1])[0]
        text = f'{value:g}' if value < 1e5 else f'{value / 1000:g}k'
        parts.append(
            tag('text', text, x=f'{x:.1f}', y=_HEIGHT - _BOTTOM + 17, text_anchor='middle')
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag('text', 'step', x=middle, y=_HEIGHT - 5, text_anchor='middle'))
    for i, one in enumerate(series):
        parts += _line(one, _color(one, i), place)
    names = [
        tag('span', tag('i', class_=f'fill key {_color(s, i)}'), ' ', s.name, ' ')
        for i, s in enumerate(series)
    ]
    svg = tag(
        'svg',
        *parts,
        viewBox=f'0 0 {_WIDTH} {_HEIGHT}',
        role='img',
        aria_label=f'{title}: ' + '; '.join(_in_words(s, unit) for s in series),
    )
    caption = tag('figcaption', title, f', {unit}' if unit else '')
    return tag(
        'figure', caption, svg, tag('p', *names, class_='legend') if len(series) > 1 else None
    )


def _color(one: Series, place: int) -> str:
    return f's{(place if one.color is None else one.color) % 8}'


def smoothed(values: np.ndarray) -> np.ndarray:
    """Exponential mean without a bias to the first value, as TensorBoard's slider makes it.

    It looks back over a fifteenth of the curve, however many points that has.
    """
    weight = max(0.0, min(0.98, 1 - 15 / len(values)))
    result, total, norm = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        total = weight * total + (1 - weight) * value
        norm = weight * norm + 1 - weight
        result[i] = total / norm
    return result


def thinned(x: np.ndarray, y: np.ndarray, most: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points: of each bucket the mean; first and last stay."""
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most - 1).round().astype(int)[:-1]
    count = np.diff([*edges, len(x)])
    x_mean, y_mean = (np.add.reduceat(a.astype(float), edges) / count for a in (x, y))
    ends = [0], [-1]
    return (
        np.concatenate([x[ends[0]], x_mean, x[ends[1]]]),
        np.concatenate([y[ends[0]], y_mean, y[ends[1]]]),
    )


def _line(one: Series, color: str, place: _Place) -> list[Html]:
    x, y = thinned(one.x, one.y)
    raw = place(x, y)
    if len(raw) <= 30 and not one.smooth:
        dots = [
            tag('circle', tag('title', f'{one.name}: {v:.4g} at step {s:.0f}'),
                cx=f'{a:.1f}', cy=f'{b:.1f}', r=3, class_=f'dot {color}')
            for (a, b), s, v in zip(raw, x, y, strict=True)
        ]  # fmt: skip
        return [_path(raw, f'line {color}'), *dots]
    if not one.smooth or len(raw) < 10:
        return [_path(raw, f'line {color}')]
    x, y = thinned(one.x, smoothed(one.y))
    return [_path(raw, f'line faint {color}'), _path(place(x, y), f'line {color}')]


def _path(points: Sequence[tuple[float, float]], css: str) -> Html:
    return tag('polyline', points=' '.join(f'{x:.1f},{y:.1f}' for x, y in points), class_=css)


def _axis(values: np.ndarray, log: bool, zero: bool) -> tuple[_Scale, list[tuple[float, str]]]:
    """A function from values to [0, 1], and the ticks."""
    low, high = float(values.min()), float(values.max())
    if log:
        a, b = math.log10(low), math.log10(high)
        steps = [m * 10.0**e for e in range(math.floor(a), math.ceil(b) + 1) for m in (1, 2, 5)]
        ticks = [t for t in steps if low <= t <= high]
        ticks = ticks if len(ticks) <= 7 else [t for t in ticks if f'{t:e}'.startswith('1')]
        return (lambda y: (np.log10(y) - a) / (b - a)), [(t, f'{t:g}') for t in ticks]
    low = min(low, 0.0) if zero else low
    if high - low < 1e-12:
        low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
    ticks = _ticks(low, high, 5)
    return (lambda y: (y - low) / (high - low)), [(t, f'{t:.6g}') for t in ticks]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within a range."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _in_words(one: Series, unit: str) -> str:
    best = one.y.min(), one.y.max()
    text = f'{one.name} from {one.y[0]:.4g} at step {one.x[0]} to {one.y[-1]:.4g} at step '
    return f'{text}{one.x[-1]}, lowest {best[0]:.4g}, highest {best[1]:.4g} {unit}'.strip()


def chart_grid(charts: Sequence[Html]) -> Html:
    """Charts beside each other, as many as there is room for."""
    return tag('div', join(charts), class_='charts')
