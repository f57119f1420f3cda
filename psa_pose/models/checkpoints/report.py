"""What became of a file's weights, as a line in the usual case and else as a table."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLUMNS = ('loaded', 'renamed', 'reshaped', 'missing', 'unexpected')


@dataclass
class LoadReport:
    """Names of the model's and the file's parameters, by what became of them.

    Attributes:
        path: of the file.
        format: whose it is, recognised from its keys.
        loaded: names of the model with a value from the file, those below among them.
        renamed: the file's name of each that has another there.
        reshaped: with another shape in the file.
        missing: left as they were.
        unexpected: the file's names for which the model has no place.
        notes: sentences about the head, attention, what was assumed.
        sizes: values of each name above.
    """

    path: Path
    format: str = ''
    loaded: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether file and model have the same parameters."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        millions = sum(self.sizes.get(name, 0) for name in self.loaded) / 1e6
        counts = [f'{len(self.loaded)} loaded ({millions:.2f} M values)']
        for column in COLUMNS[1:]:
            if names := list(getattr(self, column)):
                counts.append(f'{len(names)} {column}')
        text = f'weights   {self.path}: {self.format}: {", ".join(counts)}'
        if not self.complete:
            text += f'\n{self._table()}'
        return '\n          '.join([text.replace('\n', '\n' + ' ' * 10), *self.notes])

    def _table(self) -> str:
        table = Table()
        table.add_column('module')
        for column in (*COLUMNS, 'million values'):
            table.add_column(column, justify='right')
        rows: dict[str, dict[str, list[str]]] = {}
        for column in COLUMNS:
            for name in getattr(self, column):
                rows.setdefault(_module(name), {}).setdefault(column, []).append(name)
        for module, cells in rows.items():
            names = {
                n for column in ('loaded', 'missing', 'unexpected') for n in cells.get(column, ())
            }
            size = sum(self.sizes.get(name, 0) for name in names) / 1e6
            counts = (str(len(cells[c])) if c in cells else '' for c in COLUMNS)
            table.add_row(module, *counts, f'{size:.2f}')
        out = io.StringIO()
        Console(file=out, width=100).print(table)
        return out.getvalue().rstrip('\n')


def _module(name: str) -> str:
    """The row of a name: a stage, the stem, all attention, or the first word of a foreign name."""
    parts = name.split('.')
    if 'attention' in parts:
        return 'attention'
    if parts[0] == 'backbone' and parts[1][:-1] in ('conv', 'bn'):
        return 'backbone.stem'
    return '.'.join(parts[:2]) if parts[0] in ('backbone', 'head') else parts[0]
