"""Downloads from a server on this machine that breaks off, changes its file, or refuses."""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from psa_pose.datasets.prepare.download import download
from psa_pose.errors import DataError

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.refusals:
            self.send_error(server.refusals.pop(0))
            return
        content, start = server.content, 0
        asked = self.headers.get('Range')
        if asked and server.ranges and self.headers.get('If-Range') == server.tag:
            start = int(asked.removeprefix('bytes=').rstrip('-'))
            if start >= len(content):
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{len(content)}')
                self.end_headers()
                return
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        else:
            self.send_response(200)
        self.send_header('Content-Length', str(len(content) - start))
        if server.tag:
            self.send_header('ETag', server.tag)
        self.end_headers()
        until = len(content)
        if server.breaks:
            until = start + server.breaks.pop(0)
        server.sent += len(content[start:until])
        self.wfile.write(content[start:until])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.content, server.tag, server.ranges = CONTENT, '"v1"', True
    server.breaks, server.refusals, server.requests, server.sent = [], [], [], 0
    server.url = f'http://127.0.0.1:{server.server_port}/a.zip'
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole(server, tmp_path):
    download(server.url, tmp_path / 'new' / 'a.zip')
    assert (tmp_path / 'new/a.zip').read_bytes() == CONTENT
    assert names(tmp_path / 'new') == ['a.zip']


def test_goes_on_after_breaks_without_fetching_twice(server, tmp_path):
    server.breaks = [1_000_000, 500_000, 1_000_000]
    download(server.url, tmp_path / 'a.zip', pause=0.01)
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT
    assert len(server.requests) == 4
    assert server.sent == len(CONTENT)


def test_a_later_call_goes_on(server, tmp_path):
    server.breaks = [1_200_000, 0, 0]
    with pytest.raises(DataError, match=r'ended early; 1200000 bytes are kept in .*a\.zip\.part'):
        download(server.url, tmp_path / 'a.zip', tries=2, pause=0.01)
    assert not (tmp_path / 'a.zip').exists()
    server.breaks = []
    server.sent = 0
    download(server.url, tmp_path / 'a.zip')
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT
    assert server.sent == len(CONTENT) - 1_200_000
    assert names(tmp_path) == ['a.zip']


def test_parts_of_two_versions_are_never_joined(server, tmp_path):
    server.breaks = [1_000_000, 0]
    with pytest.raises(DataError):
        download(server.url, tmp_path / 'a.zip', tries=2, pause=0.01)
    server.breaks, server.content, server.tag = [], CONTENT[::-1], '"v2"'
    download(server.url, tmp_path / 'a.zip')
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize('tag', ['', 'W/"weak"'])
def test_a_server_that_promises_nothing_starts_over(server, tmp_path, tag):
    server.breaks, server.tag = [1_000_000], tag
    download(server.url, tmp_path / 'a.zip', pause=0.01)
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT
    assert 'Range' not in server.requests[1]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.breaks, server.ranges = [1_000_000], False
    download(server.url, tmp_path / 'a.zip', pause=0.01)
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT


def test_killed_after_the_last_byte(server, tmp_path):
    (tmp_path / 'a.zip.part').write_bytes(CONTENT)
    (tmp_path / 'a.zip.part.tag').write_text('"v1"')
    download(server.url, tmp_path / 'a.zip')
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT
    assert server.sent == 0


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.refusals = [503, 500]
    download(server.url, tmp_path / 'a.zip', pause=0.01)
    assert (tmp_path / 'a.zip').read_bytes() == CONTENT


def test_a_refusal_is_named(server, tmp_path):
    server.refusals = [404]
    with pytest.raises(DataError, match=r'/a\.zip: the server answers 404'):
        download(server.url, tmp_path / 'a.zip')
    assert len(server.requests) == 1


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r'cannot fetch mirror/a\.zip: unknown url type'):
        download('mirror/a.zip', tmp_path / 'a.zip')


def test_no_room(server, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: free)
    with pytest.raises(DataError, match=r'^/.*: 3000000 bytes are to come, 2999999 are free'):
        download(server.url, tmp_path / 'a.zip')


def test_nobody_there(tmp_path):
    with pytest.raises(DataError, match=r'http://127\.0\.0\.1:9/a\.zip: .*refused'):
        download('http://127.0.0.1:9/a.zip', tmp_path / 'a.zip', tries=2, pause=0.01)
