"""What the doctor found: each finding says where, what, and what to do about it."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal['error', 'warning', 'note']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'note')
_PLACE = re.compile(
    r'[a-z_]+(\.\w+)*( \(\w+\))?|--[a-z-]+|config .*'
)  # of a config's key, or itself
_REMEDY = re.compile(r'; (?=(?:did you mean|choose one of) )')


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        level: 'error': a run stops, or its numbers would be wrong; 'warning': it goes on, but
            hardly as it was meant; 'note': good to know.
        where: a place in the config, a file, or a part of the machine.
        what: was found.
        remedy: what to do about it.
    """

    level: Level
    where: str
    what: str
    remedy: str = ''

    def __str__(self) -> str:
        return f'{self.level:<8} {self.where}: {"; ".join(filter(None, (self.what, self.remedy)))}'


class Findings(list[Finding]):
    """Findings in the order in which they were made, each once."""

    def error(self, where: str, what: str, remedy: str = '') -> None:
        """Add what stops a run."""
        self._add(Finding('error', where, what, remedy))

    def warning(self, where: str, what: str, remedy: str = '') -> None:
        """Add what a run survives, but hardly as it was meant."""
        self._add(Finding('warning', where, what, remedy))

    def note(self, where: str, what: str, remedy: str = '') -> None:
        """Add what is good to know."""
        self._add(Finding('note', where, what, remedy))

    def take(self, errors: Iterable[BaseException], where: str = 'config') -> None:
        """Add errors as a run would print them; `where` is for one that begins with no place."""
        for error in errors:
            text = str(error).removeprefix(f'{where}: ') or type(error).__name__
            place, _, rest = text.partition(': ')
            if rest and _PLACE.fullmatch(place):
                where, text = place, rest
            what, *remedy = _REMEDY.split(text, maxsplit=1)
            self.error(where, what, remedy[0] if remedy else '')

    def at(self, level: Level) -> int:
        """How many there are of a level."""
        return sum(finding.level == level for finding in self)

    def has_error(self) -> bool:
        """Whether a run would stop."""
        return self.at('error') > 0

    def _add(self, finding: Finding) -> None:
        if finding not in self:
            self.append(finding)


def as_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Plain dictionaries."""
    return [asdict(finding) for finding in findings]


def some(names: Iterable[object], limit: int = 3) -> str:
    """'a, b, c, ...': the first few of many."""
    listed = [str(name) for name in names]
    return ', '.join(listed[:limit]) + (', ...' if len(listed) > limit else '')
