"""The page in a real browser: it fits the window, loads nothing, runs nothing, knows the dark."""

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from psa_pose.report import write_report
from tests.report.conftest import Copy
from tests.report.test_report_page import EVIL

BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason='no chromium and no chrome in the path')
WIDTHS = (400, 1400)

# Around the page as it is, with its own policy; `srcdoc` lets this script look inside.
_FRAME = '<iframe style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>'
_LOOK = """
<script>
window.onload = () => {
  const seen = [...document.querySelectorAll('iframe')].map(frame => {
    const page = frame.contentDocument, root = page.documentElement
    const style = frame.contentWindow.getComputedStyle(page.body)
    const boxes = [...page.querySelectorAll('main *:not(svg *)')]
    return {
      width: root.clientWidth,
      needed: root.scrollWidth,
      beyond: boxes.filter(e => !e.closest('.scroll, pre')
        && e.getBoundingClientRect().right > root.clientWidth + 1).map(
          e => e.outerHTML.slice(0, 60)),
      hidden: boxes.filter(e => e.getBoundingClientRect().height < 5
        && e.matches('h2, p, dd, li, figcaption') && e.textContent).length,
      headings: [...page.querySelectorAll('h2')].map(e => e.textContent),
      broken: [...page.images].filter(i => !i.complete || !i.naturalWidth).length,
      pictures: page.images.length,
      smallest: Math.min(...[...page.querySelectorAll('svg text')].map(
        e => e.getBoundingClientRect().height)),
      lines: page.querySelectorAll('svg polyline').length,
      requests: frame.contentWindow.performance.getEntriesByType('resource').map(e => e.name)
        .filter(name => !name.startsWith('data:')),
      ran: Boolean(window.ran || frame.contentWindow.ran),
      background: style.backgroundColor,
      color: style.color,
    }
  })
  document.body.innerHTML = ''
  document.body.textContent = 'SEEN' + JSON.stringify(seen) + 'END'
}
</script>
"""


def look(page: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What a browser makes of a page at each of `WIDTHS`."""
    frames = ''.join(_FRAME.format(width=w, page=html.escape(page)) for w in WIDTHS)
    around = folder / 'around.html'
    around.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}{_LOOK}')
    command = [
        BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
        f'--user-data-dir={folder / "profile"}', *options, '--dump-dom', around.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search('SEEN(.*)END', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def brightness(color: str) -> float:
    return sum(map(int, re.findall(r'\d+', color)[:3])) / 765


def test_light_dark_narrow_wide(copy_run: Copy, tmp_path: Path) -> None:
    page = write_report([copy_run()]).read_text()
    light = look(page, tmp_path)
    dark = look(page, tmp_path, '--force-dark-mode')
    for seen, width in zip([*light, *dark], WIDTHS * 2, strict=True):
        assert width - 20 <= seen['width'] <= width
        assert seen['needed'] <= seen['width'] and not seen['beyond'] and not seen['hidden']
        assert len(seen['headings']) == 8
        assert seen['pictures'] >= 3 and not seen['broken']
        assert seen['lines'] >= 5 and seen['smallest'] > 8, 'the charts can be read'
        assert not seen['requests'] and not seen['ran']
    for seen, ground in ((light, 0.9), (dark, 0.2)):
        assert brightness(seen[0]['background']) == pytest.approx(ground, abs=0.15)
        contrast = brightness(seen[0]['background']) - brightness(seen[0]['color'])
        assert abs(contrast) > 0.6


def test_a_comparison_of_runs_with_bad_names(copy_run: Copy, tmp_path: Path) -> None:
    """Long names, and markup, which is shown and not run."""
    folders = [copy_run(f'{"a_long_name_" * 8}{i}') for i in range(3)]
    evil = EVIL.replace('alert(1)', 'window.ran=parent.ran=1').replace('alert(2)', 'parent.ran=1')
    for folder in folders:
        config = folder / 'config.py'
        config.write_text(config.read_text() + f'load_from = {evil + folder.name[-1]!r}\n')
    page = write_report(folders, tmp_path / 'c.html').read_text()
    assert page.replace('<wbr/>', '').count('window.ran') == 3
    for seen in look(page, tmp_path):
        assert seen['needed'] <= seen['width'] and not seen['beyond']
        assert not seen['requests'] and not seen['ran']
        assert 'Config differences' in seen['headings']


class Server(ThreadingHTTPServer):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), BaseHTTPRequestHandler)
        self.asked = 0

    def process_request(self, *arguments: Any) -> None:
        self.asked += 1
        super().process_request(*arguments)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_browser_would_tell(copy_run: Copy, tmp_path: Path, server: Server) -> None:
    """What the tests above look for is seen where it is there; and the policy holds."""
    page = write_report([copy_run()]).read_text()
    address = f'http://127.0.0.1:{server.server_port}/picture.png'
    policy = re.search('<meta http-equiv.*?>', page)
    assert policy
    bad = page.replace(policy[0], '').replace(
        '</main>',
        '<script>window.ran=1</script><p style="width:2000px">wide</p>'
        f'<img src="{address}"></main>',
    )
    for seen in look(bad, tmp_path):
        assert seen['needed'] > seen['width'] and seen['beyond'] and seen['ran']
        assert seen['broken'] == 1 and seen['requests'] == [address]
    assert server.asked
    server.asked = 0
    held = look(bad.replace('<head>', '<head>' + policy[0]), tmp_path)
    assert not any(seen['ran'] for seen in held) and not server.asked
