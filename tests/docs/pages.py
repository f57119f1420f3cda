"""The pages and their fenced code blocks; `python -m tests.docs.pages` counts them.

Of a block: a language on its fence; `# NAME` as the first line of a Python block makes it a file of
that name, for the blocks after it; `<!-- not run: REASON -->` before the fence keeps it from being
run. ```text shows something that is no program.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md')), ROOT / 'CONTRIBUTING.md']
ELSEWHERE = {ROOT / 'docs/mmpose.md': 'tests/mmpose/test_page.py, in two environments'}
"""Pages that another test runs."""
SHELL = ('bash', 'console')
SHOWN = ('text', 'json', 'yaml')
"""Languages that are only shown."""
_FENCE = re.compile(
    r'(?:^ *<!-- not run: (?P<reason>[^\n]*?) -->\n+)?'
    r'^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$',
    re.M | re.S,
)
_FILE = re.compile(r'# ([\w./-]+\.py)\n')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of its first line in the page, from 1.
        reason: why it is not run, or ''.
        file: what it is saved as, or ''.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str = ''

    @property
    def file(self) -> str:
        found = _FILE.match(self.text) if self.language == 'python' else None
        return found[1] if found else ''

    @property
    def runs(self) -> bool:
        return self.language not in SHOWN and not self.reason

    def __str__(self) -> str:
        return f'{self.page.name}:{self.line}'


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    content = page.read_text(encoding='utf-8')
    blocks = []
    for found in _FENCE.finditer(content):
        indent = len(found['indent'])
        lines = (line[indent:] for line in found['text'].splitlines(keepends=True))
        text = ''.join(line or '\n' for line in lines)
        start = content.count('\n', 0, found.start('text')) + 1
        blocks.append(Block(page, start, found['language'], text, found['reason'] or ''))
    return blocks


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a shell block, each with the output lines that the page shows under it.

    A block of which no line starts with `$ ` is one script. Where some do, the other lines are
    output.
    """
    lines = block.text.splitlines()
    if not any(line.startswith('$ ') for line in lines):
        return [(block.text, [])]
    found: list[tuple[str, list[str]]] = []
    goes_on = False
    for line in lines:
        if goes_on:
            command, _ = found.pop()
            found.append((f'{command}\n{line.removeprefix("> ")}', []))
        elif line.startswith('$ '):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        goes_on = line.endswith('\\') and (goes_on or line.startswith('$ '))
    return found


def main() -> None:
    """Say how many blocks there are, and which are not run."""
    blocks = [block for page in PAGES if page not in ELSEWHERE for block in read_blocks(page)]
    shown = sum(block.language in SHOWN for block in blocks)
    left_out = [block for block in blocks if block.reason]
    print(
        f'{len(blocks)} blocks of {len(PAGES) - len(ELSEWHERE)} pages: '
        f'{sum(block.runs for block in blocks)} are run, {shown} only show something, '
        f'{len(left_out)} are not run:'
    )
    for block in left_out:
        print(f'  {block}  {block.reason}')
    for page, test in ELSEWHERE.items():
        print(f'{page.name} ({len(read_blocks(page))} blocks) is run by {test}')


if __name__ == '__main__':
    main()
