"""Reading a large JSON object entry by entry: its text and its objects are never all in memory.

`json.loads` of COCO's train2017 annotations, 240 MB, takes 1.3 GB.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

WINDOW = 1 << 20  # characters
MAX_BYTES = 4 << 30  # of a file; COCO's train2017 has 0.24e9, and its objects take 5 times that
MAX_VALUE = 64 << 20  # characters of an entry; a thousand times the largest of COCO's
_SPACE = re.compile(r'[ \t\n\r]*')
_CUT_NUMBER = re.compile(r'(\.|[eE][+-]?)?\Z')  # what may follow its digits where the text ends
_decode = json.JSONDecoder().raw_decode


def whole(path: Path) -> Any:
    """The value in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, or of more than `MAX_BYTES`.
        RecursionError: lists in lists without end.
    """
    _check_size(path)
    return json.loads(path.read_bytes())


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f'{size >> 20} MiB, and more than {MAX_BYTES >> 20} are not read')


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """The members of the object in a file, in their order; none where it holds another value.

    A list comes as an iterator over its entries, to be used before the next member.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON in UTF-8; partway, so nothing is certain before the end.
    """
    _check_size(path)
    with path.open(encoding='utf-8-sig') as file:
        text = _Text(file)
        if text.peek() == '{':
            yield from _members(text)
        else:
            text.value()
        if text.peek():
            raise text.error('Extra data')


def _members(text: '_Text') -> Iterator[tuple[str, Any]]:
    text.take('{')
    if text.peek() == '}':
        text.take('}')
        return
    while True:
        if text.peek() != '"':
            raise text.error('Expecting property name enclosed in double quotes')
        name = text.value()
        text.take(':')
        if text.peek() == '[':
            entries = _entries(text)
            yield name, entries
            for _ in entries:  # what was not asked for
                pass
        else:
            yield name, text.value()
        if text.take(',}') == '}':
            return


def _entries(text: '_Text') -> Iterator[Any]:
    text.take('[')
    if text.peek() == ']':
        text.take(']')
        return
    while True:
        yield text.value()
        if text.take(',]') == ']':
            return


class _Text:
    """A file's text from the reader's place on, read as it is asked for."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ''
        self.at = 0
        self.passed = 0  # characters of the file before `text`

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read_on():
                return ''

    def take(self, expected: str) -> str:
        """Step over the next character, one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise self.error(f'Expecting {" or ".join(map(repr, expected))}')
        self.at += 1
        return found

    def value(self) -> Any:
        """Step over a whole value."""
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:  # wrong, or cut off by the window
                if not self._read_on():
                    raise self.error(error.msg, error.pos) from None
            else:
                # A number at the window's end may go on.
                if not _CUT_NUMBER.match(self.text, end) or not self._read_on():
                    self.at = end
                    return value

    def error(self, message: str, at: int | None = None) -> ValueError:
        """Says where it is."""
        return ValueError(f'{message}: char {self.passed + (self.at if at is None else at)}')

    def _read_on(self) -> bool:
        """Twice as much where a value did not fit, so that few tries are enough for any."""
        if len(self.text) - self.at > MAX_VALUE:
            raise self.error(f'A value of more than {MAX_VALUE} characters, or no JSON')
        more = self.file.read(max(WINDOW, len(self.text) - self.at))
        if more:
            self.passed += self.at
            self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)
