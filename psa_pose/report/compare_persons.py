"""Runs beside each other on the same persons: keypoints, differences, pictures."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from psa_pose.report.errors import keypoint_shares
from psa_pose.report.examples import gallery, picture
from psa_pose.report.html import Html, notices, section, table, tag
from psa_pose.report.numbers import percent
from psa_pose.report.persons import Analysis, Persons
from psa_pose.report.rows import evaluation_kind
from psa_pose.report.run import Run

_SAME = 4  # persons that all runs are shown on where they differ, and half as many typical ones
_PICTURES = 48  # about as many in all: more would make the file too large
_DRAWS = 2000


def same_persons(runs: list[Run], analyses: list[Analysis]) -> Iterator[Html]:
    """Keypoints, differences and examples of the runs that predicted the first one's persons."""
    same: list[tuple[Run, Analysis, Persons]] = []
    apart = []
    for run, analysis in zip(runs, analyses, strict=True):
        if analysis.persons is None or run.latest is None:
            apart.append(f'{run.name}: {analysis.why_not}')
        elif not same or _alike(same[0], (run, analysis, analysis.persons)):
            same.append((run, analysis, analysis.persons))
        else:
            apart.append(f'{run.name}: measured in another way, or on other persons')
    left_out = notices((f'Left out below: {text}' for text in apart), 'note')
    if len(same) < 2:
        yield section('Persons', tag('p', 'No two runs predicted the same persons.'), left_out)
        return
    if left_out:
        yield left_out
    yield _keypoints([(run, analysis) for run, analysis, _ in same])
    yield _paired([(run, persons) for run, _, persons in same])
    yield _examples(same)


def _alike(one: tuple[Run, Analysis, Persons], other: tuple[Run, Analysis, Persons]) -> bool:
    first, second = one[0].latest, other[0].latest
    assert first and second
    kinds_ = evaluation_kind(first), evaluation_kind(second)
    same = np.array_equal(one[2].id, other[2].id) and one[2].image == other[2].image
    return kinds_[0] == kinds_[1] and same


def _keypoints(same: list[tuple[Run, Analysis]]) -> Html:
    what, _ = keypoint_shares(*same[0])
    columns = [keypoint_shares(run, analysis)[1] for run, analysis in same]
    rows = []
    for name in columns[0]:
        values = [column.get(name, -1) for column in columns]
        cells = [tag('b', percent(v)) if v == max(values) else percent(v) for v in values]
        rows.append((name.replace('_', ' '), *cells))
    return section(
        'Keypoints', table(['keypoint', *(f'{r.name}, {what} %' for r, _ in same)], rows)
    )


def _paired(same: list[tuple[Run, Persons]]) -> Html:
    """Differences of the mean over persons, with the uncertainty of having drawn these images."""
    (first, base), *others = same
    oks = bool((base.quality >= 0).all())
    what, scale = ('mean OKS', 1.0) if oks else ('mean error, % of the person', -100.0)
    rows: list[Any] = [(first.name, f'{scale * base.quality.mean():.3f}', '', '')]
    for run, persons in others:
        difference = scale * (persons.quality - base.quality)
        low, high = interval(difference, base.image)
        sure = 'yes' if low > 0 or high < 0 else 'no'
        rows.append(
            (
                run.name,
                f'{scale * persons.quality.mean():.3f}',
                f'{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]',
                sure,
            )
        )
    missed = '; who was missed has an OKS of 0' if oks else ''
    note = (
        f'The same {len(base):,} persons, one by one{missed}. In brackets the 95 % interval of a '
        'bootstrap over images: the chance of the draw of images, not that of the training, which '
        'another seed would show.'
    )
    head = ['run', what, f'difference to {first.name} [95 %]', 'beyond chance']
    return section('Differences', tag('p', note, class_='dim'), table(head, rows))


def interval(difference: np.ndarray, image: list[str]) -> tuple[float, float]:
    """Bootstrap over images: 2.5th and 97.5th percentile of the mean over persons.

    Args:
        difference: (G,) of persons.
        image: the image of each; persons of one are drawn together.
    """
    _, group = np.unique(np.array(image), return_inverse=True)
    total, count = np.bincount(group, difference), np.bincount(group)
    rng, means = np.random.default_rng(0), np.empty(_DRAWS)
    for i in range(_DRAWS):
        drawn = np.bincount(rng.integers(len(total), size=len(total)), minlength=len(total))
        means[i] = (drawn @ total) / (drawn @ count)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _examples(same: list[tuple[Run, Analysis, Persons]]) -> Html:
    """Persons that the runs differ on most, and typical ones, each with all runs."""
    quality = np.stack([persons.quality for _, _, persons in same])
    found = np.stack([persons.found for _, _, persons in same])
    spread = np.where(found.any(0), quality.max(0) - quality.min(0), -1)
    middle = np.argsort(quality.mean(0), kind='stable')
    count = max(2, min(_SAME, _PICTURES // len(same)))
    start = max(0, (len(middle) - count // 2) // 2)
    parts: list[Html] = []
    for title, chosen in (
        ('Where they differ most', np.argsort(-spread, kind='stable')[:count].tolist()),
        ('Typical', middle[start : start + count // 2].tolist()),
    ):
        parts.append(tag('h3', title))
        for person in chosen:
            figures = [picture(persons, person, a.image_root, run.name) for run, a, persons in same]
            parts.append(gallery(figures, same=True))
    return section('Examples', *parts)
