"""Links of Markdown pages to files of this repository and to headings."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_LINK = re.compile(r'(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)')
_FENCED = re.compile(r'^( *)```.*?^\1```$|`[^`\n]*`', re.M | re.S)


def broken_links(page: Path) -> Iterator[str]:
    """Links whose file or heading is not there; addresses of the network are not asked for."""
    text = _FENCED.sub('', page.read_text(encoding='utf-8'))
    for found in _LINK.finditer(text):
        link = found[1] or found[2]
        if re.match(r'\w+:', link):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f'{page.name}: {link}: no such file'
        elif anchor and target.suffix == '.md' and anchor not in anchors(target):
            yield f'{page.name}: {link}: no such heading'


@cache
def anchors(page: Path) -> set[str]:
    """Of a page's headings, as Markdown makes them."""
    text = _FENCED.sub(
        lambda found: found[0].strip('`') if '\n' not in found[0] else '',
        page.read_text(encoding='utf-8'),
    )
    return {_slug(heading) for heading in re.findall(r'^#+ +(.+?) *$', text, re.M)}


def _slug(heading: str) -> str:
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
    text = re.sub(r'[^\w\s-]', '', text.lower()).strip()
    return re.sub(r'[\s]+', '-', text)
