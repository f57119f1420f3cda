"""Metrics as tables for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from psa_pose.evaluation.metric import PoseMetric


def print_tables(metric: 'PoseMetric', numbers: Mapping[str, Any]) -> None:
    """Print a metric's tables of the numbers that it computed."""
    for part, own in metric.parts(numbers):
        for title, table in part.tables(own):
            print_metrics(table, title, part.decimals)


def print_metrics(metrics: Mapping[str, Any], title: str, decimals: int = 4) -> None:
    """One row of numbers under their names; the title says which boxes they are about.

    Names of the form `column/row` make a table of rows, one of the form `name` a table of one.
    """
    numbers = {name: value for name, value in metrics.items() if name != 'boxes'}
    rows: dict[str, dict[str, str]] = {}
    for name, value in numbers.items():
        column, _, row = name.partition('/')
        rows.setdefault(row, {})[column] = f'{value:.{decimals}f}' if value >= 0 else '-'
    columns = list(dict.fromkeys(name.partition('/')[0] for name in numbers))
    table = Table()
    named = any(rows)
    if named:
        table.add_column('', no_wrap=True)
    for column in columns:
        table.add_column(column, justify='right', no_wrap=True)
    for row, cells in rows.items():
        table.add_row(*([row] if named else []), *(cells.get(column, '') for column in columns))
    # Wide enough for a log file, where rich would assume 80 columns.
    console = Console(width=max(Console().width, 110))
    # Not the table's own title, which rich folds to the table's width.
    console.print(title, style='bold', soft_wrap=True, highlight=False, markup=False)
    if columns:
        console.print(table)
