"""The site is built without a warning, and asks nobody else for anything (`make docs`)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.docs
# What a browser fetches by itself; a link in the text may lead anywhere.
_FETCHED = re.compile(
    r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="?(https?:)?//'
    r'|<link\b[^>]*rel="?(?:stylesheet|preconnect|preload|icon)[^>]*href="?(https?:)?//'
    r'|(?:url\(|@import )["\']?(https?:)?//'
)


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)],
        cwd=ROOT,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert 'WARNING' not in done.stderr
    return folder


def test_pages(site: Path) -> None:
    for name in ('index', 'configs', 'changelog', 'contributing', 'api/models'):
        assert (site / f'{name}.html').is_file()
    page = (site / 'api/attention.html').read_text()
    assert 'identity_init' in page and 'an exact identity' in page  # of PSA's docstring
    assert 'simplebaseline_r152_psa_p_384x288' in (site / 'configs.html').read_text()


def test_fetches_nothing(site: Path) -> None:
    for path in [*site.rglob('*.html'), *site.rglob('*.css')]:
        found = _FETCHED.search(path.read_text(encoding='utf-8'))
        assert not found, f'{path.relative_to(site)}: {found and found[0]}'


def test_would_find_what_is_fetched() -> None:
    for text in (
        '<script async src="https://a/b.js">',
        '<link rel="stylesheet" href="//a/b.css">',
        '@font-face{src:url(https://a/b.woff)}',
    ):
        assert _FETCHED.search(text)
    assert not _FETCHED.search('<a href="https://a"> <link rel=stylesheet href=assets/b.css>')
