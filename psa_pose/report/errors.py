"""Keypoints and errors: bars by keypoint, what each kind of error costs, groups of persons."""

from typing import Any

from psa_pose.evaluation.diagnosis import Diagnosis
from psa_pose.evaluation.diagnosis.diagnose import OUTCOMES
from psa_pose.evaluation.diagnosis.tables import error_counts
from psa_pose.report.html import Html, bar, legend, notices, section, stacked, table, tag
from psa_pose.report.numbers import by_keypoint, percent
from psa_pose.report.persons import Analysis
from psa_pose.report.run import Run
from psa_pose.report.style import SHOWN


def keypoints(run: Run, analysis: Analysis) -> Html:
    """Bars by keypoint: AP of the diagnosis, or MPII's PCKh."""
    title = 'Keypoints'
    if diagnosis := analysis.diagnosis:
        rows = [
            (
                name.replace('_', ' '),
                f'{row["labelled"]:,}',
                bar(row['AP'], percent(row['AP'])),
                percent(row['PCK']) if row['labelled'] else '–',
                stacked(_shares(row)),
            )
            for name, row in diagnosis.keypoints.items()
        ]
        return section(
            title,
            tag('p', 'AP of one keypoint alone, persons matched as whole poses; the right column: '
                'what is wrong with how many of its labels.', class_='dim'),
            legend(SHOWN),
            table(['keypoint', 'labels', 'AP, %', 'PCK@0.2, %', 'errors'], rows),
        )  # fmt: skip
    if found := _joints(run):
        rows_ = [
            (name.replace('_', ' '), bar(values[0] / 100, percent(values[0] / 100)),
             percent(values[1] / 100) if len(values) > 1 else '')
            for name, values in found.items()
        ]  # fmt: skip
        return section(title, table(['joint', 'PCKh@0.5, %', 'PCKh@0.1, %'], rows_))
    return section(title, _why(analysis))


def diagnosis(run: Run, analysis: Analysis) -> Html:
    """What AP would be without each kind of error, and which persons are hard."""
    title, found = 'Errors', analysis.diagnosis
    if found is None:
        about = (run.latest.about if run.latest else {}).get('dataset')
        if about == 'MpiiDataset' and analysis.persons:
            text = "The diagnosis is of COCO's OKS; MPII's persons have no area to measure it by."
            return section(title, tag('p', text, class_='missing'))
        return section(title, _why(analysis))
    return section(title, _about(found), _cures(found), _groups(found))


def _about(found: Diagnosis) -> Html:
    d = found.detections
    return tag(
        'p',
        f'{found.persons["evaluated"]:,} persons, {found.persons["missed"]:,} missed; '
        f'{d["total"]:,} detections: {d["matched"]:,} matched, {d["ignored"]:,} ignored, '
        f'{d["duplicate"]:,} duplicates, {d["background"]:,} background. Kinds are those of Ronchi '
        'and Perona (ICCV 2017).',
    )


def _cures(found: Diagnosis) -> Html:
    counts, base = error_counts(found), found.ap['AP']
    most = max([row['gain'] for row in found.cured.values()] + [1e-9])
    order = sorted(found.cured.items(), key=lambda item: -item[1]['gain'])
    rows = [
        (
            kind,
            f'{counts[kind]:,}' if kind in counts else '',
            percent(row['alone']),
            bar(row['gain'] / most, f'{100 * row["gain"]:+.1f}', f'k-{kind.replace(" ", "-")}'),
        )
        for kind, row in order
    ]
    caption = f'AP if errors of one kind were cured; as it is {percent(base)} %'
    return table(['error', 'count', 'AP without it, %', 'gain'], rows, caption=caption)


def _groups(found: Diagnosis) -> Html:
    names = {
        'size': 'size (COCO)',
        'quartile': 'size in pixels',
        'crowding': 'persons that overlap',
        'keypoints': 'labelled keypoints',
    }
    rows: list[Any] = []
    for division, parts in found.groups.items():
        for name, row in parts.items():
            rows.append(
                (
                    f'{names.get(division, division)}: {name}',
                    f'{row["persons"]:,}',
                    f'{row["missed"]:,}',
                    bar(row['AP'], percent(row['AP'])),
                    stacked(_shares(row)),
                )
            )
    return table(
        ['persons', 'count', 'missed', 'AP, %', 'errors'], rows, caption='Which persons are hard'
    )


def _shares(row: dict[str, Any]) -> list[tuple[str, float]]:
    total = max(sum(row[name] for name in OUTCOMES), 1)
    return [(name, row[name] / total) for name in SHOWN]


def _why(analysis: Analysis) -> Html | None:
    return notices([f'Not here: {analysis.why_not}'], 'note')


def keypoint_shares(run: Run, analysis: Analysis) -> tuple[str, dict[str, float]]:
    """By keypoint AP or MPII's PCKh, in [0, 1], and which of them it is; empty where neither is."""
    if analysis.diagnosis:
        return 'AP', {name: row['AP'] for name, row in analysis.diagnosis.keypoints.items()}
    return 'PCKh@0.5', {name: values[0] / 100 for name, values in _joints(run).items()}


def _joints(run: Run) -> dict[str, tuple[Any, ...]]:
    """Of MPII by joint: PCKh at 0.5 and at 0.1; empty for others."""
    evaluation = run.latest
    if evaluation is None:
        return {}
    found: dict[str, list[Any]] = {}
    for t in evaluation.tables:
        for name, value in t['numbers'].items():
            if by_keypoint(name):
                found.setdefault(name.partition('/')[2], []).append(value)
    return {name: tuple(values) for name, values in found.items()}
