"""A diagnosis as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from psa_pose.evaluation.diagnosis.diagnose import OUTCOMES, Diagnosis
from psa_pose.evaluation.diagnosis.options import CURES, KEYPOINT_KINDS


def print_diagnosis(diagnosis: Diagnosis, source: str) -> None:
    """Print all tables; `source` names the results."""
    console = Console()
    console = Console(width=max(console.width, 110), highlight=False)
    # Not as the table's title, which would be folded to its width.
    console.print(_about(diagnosis, source), style='bold', soft_wrap=True, markup=False)
    for table in (
        _overall(diagnosis),
        _cures(diagnosis),
        _keypoints(diagnosis),
        _groups(diagnosis),
    ):
        console.print(table)
        console.print()


def error_counts(diagnosis: Diagnosis) -> dict[str, int]:
    """How often each of `CURES` occurs: keypoints, detections or persons; scores have no count."""
    return {
        **{kind: diagnosis.outcomes[kind] for kind in KEYPOINT_KINDS},
        'background': diagnosis.detections['background'],
        'duplicate': diagnosis.detections['duplicate'],
        'missed person': diagnosis.persons['missed'],
    }


def _about(diagnosis: Diagnosis, source: str) -> str:
    found = diagnosis.detections
    beyond = f', {found["beyond"]:,} beyond the 20 best of their image' if found['beyond'] else ''
    return (
        f'OKS-AP of {source} (which does not say from which boxes it was made)\n'
        f'{diagnosis.persons["evaluated"]:,} persons of {diagnosis.annotations}, '
        f'{diagnosis.persons["missed"]:,} of them missed; {diagnosis.sigmas} sigmas\n'
        f'{found["total"]:,} detections: {found["matched"]:,} matched, {found["ignored"]:,} '
        f'ignored, {found["duplicate"]:,} duplicates, {found["background"]:,} background{beyond}'
    )


def _overall(diagnosis: Diagnosis) -> Table:
    table = _table('', *diagnosis.ap)
    table.add_row(*(_ap(value) for value in diagnosis.ap.values()))
    return table


def _cures(diagnosis: Diagnosis) -> Table:
    table = _table(
        'AP if errors of a kind were cured (after Ronchi and Perona, ICCV 2017)',
        'error',
        'count',
        'of',
        'share',
        'of errors',
        'cured alone',
        'gain',
        'one by one',
        'gain',
        left=('error', 'of'),
    )
    counts, labelled = error_counts(diagnosis), sum(diagnosis.outcomes.values())
    wrong = sum(diagnosis.outcomes[kind] for kind in KEYPOINT_KINDS)
    units = {kind: ('keypoints', labelled) for kind in KEYPOINT_KINDS} | {
        'background': ('detections', diagnosis.detections['total']),
        'duplicate': ('detections', diagnosis.detections['total']),
        'missed person': ('persons', diagnosis.persons['evaluated']),
    }
    table.add_row('none', *[''] * 4, _ap(diagnosis.ap['AP']), '', _ap(diagnosis.ap['AP']), '')
    for kind in CURES:
        unit, total = units.get(kind, ('', 0))
        count = counts.get(kind)
        cured = diagnosis.cured[kind]
        table.add_row(
            kind,
            '' if count is None else f'{count:,}',
            unit,
            '' if count is None else _share(count, total),
            _share(counts[kind], wrong) if kind in KEYPOINT_KINDS else '',
            _ap(cured['alone']),
            _gain(cured['gain']),
            _ap(cured['after']),
            _gain(cured['further_gain']),
        )
    return table


def _keypoints(diagnosis: Diagnosis) -> Table:
    thr = diagnosis.options['pck_thr']
    table = _table(
        f'Keypoints: AP of each alone, PCK@{thr:g} of the box of persons found, '
        'and what became of the labelled ones',
        'keypoint',
        'labelled',
        'AP',
        'PCK',
        *OUTCOMES,
        left=('keypoint',),
    )
    for name, row in diagnosis.keypoints.items():
        table.add_row(
            name,
            f'{row["labelled"]:,}',
            _ap(row['AP']),
            _ap(row['PCK']),
            *_outcomes(row),
        )
    table.add_section()
    labelled = sum(diagnosis.outcomes.values())
    table.add_row('all', f'{labelled:,}', '', '', *_outcomes(diagnosis.outcomes))
    return table


def _groups(diagnosis: Diagnosis) -> Table:
    table = _table(
        'Persons by size in pixels, crowding (other boxes with IoU above 0.1) and labelled '
        'keypoints',
        'by',
        'group',
        'persons',
        'missed',
        'AP',
        *OUTCOMES[:-1],
        left=('by', 'group'),
    )
    for division, parts in diagnosis.groups.items():
        for i, (name, row) in enumerate(parts.items()):
            found = {outcome: row[outcome] for outcome in OUTCOMES[:-1]}
            table.add_row(
                '' if i else division,
                name,
                f'{row["persons"]:,}',
                _share(row['missed'], row['persons']),
                _ap(row['AP']),
                *_outcomes(found),
            )
        table.add_section()
    return table


def _outcomes(row: Mapping[str, Any]) -> list[str]:
    names = [name for name in OUTCOMES if name in row]
    total = sum(row[name] for name in names)
    return [_share(row[name], total) for name in names]


def _table(title: str, *columns: str, left: tuple[str, ...] = ()) -> Table:
    table = Table(title=title or None, title_justify='left', title_style='bold')
    for name in columns:
        table.add_column(name, justify='left' if name in left else 'right', no_wrap=True)
    return table


def _ap(value: float) -> str:
    return f'{value:.4f}' if value >= 0 else '-'


def _gain(value: float) -> str:
    return f'{value:+.4f}'


def _share(count: int, total: int) -> str:
    return f'{count / total:.2%}' if total else '-'
