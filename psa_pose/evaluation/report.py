"""Metrics as a table for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_metrics(metrics: Mapping[str, Any], title: str) -> None:
    """One row of numbers under their names; the title says which boxes they are about."""
    table = Table(title=title, title_justify='left', title_style='bold')
    numbers = {name: value for name, value in metrics.items() if name != 'boxes'}
    for name in numbers:
        table.add_column(name, justify='right', no_wrap=True)
    table.add_row(*(f'{value:.4f}' if value >= 0 else '-' for value in numbers.values()))
    # Wide enough for a log file, where rich would assume 80 columns and fold the title.
    console = Console()
    Console(width=max(console.width, 110)).print(table)
