"""Pages of the site that live elsewhere in the repository, and links out of docs/.

A page is written to be right on a code host and on disk as well: it links to
`../configs/README.md` or `../psa_pose/...`. The site has some of these files as pages; of a link to
another one the text stays.
"""

import re
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    'configs.md': 'configs/README.md',
    'data.md': 'data/README.md',
    'contributing.md': 'CONTRIBUTING.md',
    'changelog.md': 'CHANGELOG.md',
}
_LINK = re.compile(r'(?<!!)\[([^\]\n]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)')


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages from elsewhere."""
    for uri, path in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/ to the site's pages, or take them off."""
    uri = page.file.src_uri
    home = str(Path(PAGES.get(uri, f'docs/{uri}')).parent)
    sites = {path: uri for uri, path in PAGES.items()}

    def turned(found: re.Match[str]) -> str:
        text, link, anchor = found.groups()
        path = normpath(join(home, link))
        if path.startswith('docs/'):
            target = path.removeprefix('docs/')
        elif path in sites:
            target = sites[path]
        else:
            return text
        return f'[{text}]({relpath(target, str(Path(uri).parent))}{anchor or ""})'

    return _LINK.sub(turned, markdown)
