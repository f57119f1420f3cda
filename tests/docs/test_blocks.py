"""Every block of every page is run, a page in a folder of its own (`make docs`)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ELSEWHERE, PAGES, ROOT, read_blocks
from tests.docs.workplace import environment, prepare

pytestmark = pytest.mark.docs
RUN_HERE = [
    page
    for page in PAGES
    if page not in ELSEWHERE and any(block.runs for block in read_blocks(page))
]


@pytest.fixture(scope='session')
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp('checkout'))


@pytest.mark.parametrize('page', RUN_HERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, prepared: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / 'checkout', symlinks=True)
    done = subprocess.run(
        [sys.executable, '-m', 'tests.docs.run', str(page), str(folder)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-8000:]
