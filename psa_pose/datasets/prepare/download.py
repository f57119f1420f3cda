"""Downloads that go on where they stopped."""

import os
import shutil
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from psa_pose.errors import DataError

_CHUNK = 1 << 20


def download(url: str, path: Path, tries: int = 5, pause: float = 1.0) -> None:
    """Fetch a file; what an earlier call got of it is kept (`<name>.part`) and not fetched again.

    The server's ETag or date is kept beside it, so that parts of two versions are never joined.

    Args:
        url: http or https.
        path: where the whole file goes; parts of it never stand there.
        tries: in a row that bring nothing new before giving up.
        pause: seconds before the second try; doubled for each further one.

    Raises:
        DataError: the server refuses, or no more bytes come.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tag = path.with_name(f'{path.name}.part'), path.with_name(f'{path.name}.part.tag')
    failures = 0
    while True:
        before = _size(part)
        try:
            if _fetch(url, part, tag):
                break
            problem = 'the connection ended early'
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(f'{url}: the server answers {error.code} {error.reason}') from None
            problem = f'the server answers {error.code} {error.reason}'
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, 'reason', error) or type(error).__name__)
        except OSError as error:
            raise DataError(f'cannot fetch {url} to {part}: {error}') from None
        except DataError:
            raise
        except ValueError as error:  # no address, or a header that is no number
            raise DataError(f'cannot fetch {url}: {error}') from None
        failures = 1 if _size(part) > before else failures + 1
        if failures >= tries:
            raise DataError(f'{url}: {problem}; {_size(part)} bytes are kept in {part}')
        time.sleep(pause * 2 ** (failures - 1))
    os.replace(part, path)
    tag.unlink(missing_ok=True)


def _fetch(url: str, part: Path, tag: Path) -> bool:
    """Get as much as one connection brings; True once the file is whole."""
    have = _size(part)
    request = urllib.request.Request(url, headers={'Accept-Encoding': 'identity'})
    if have and tag.is_file():
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', tag.read_text())
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = error.headers.get('Content-Range', '').rpartition('/')[2]
        if total == str(have):
            return True
        part.unlink()  # longer than the file: something else
        return False
    with response:
        start = f'bytes {have}-'
        resumed = response.status == 206
        if resumed and not response.headers.get('Content-Range', '').startswith(start):
            tag.unlink()  # not the bytes that were asked for: once more from the beginning
            return False
        length = response.headers.get('Content-Length')
        _check_room(part, length)
        _remember(response, tag)
        with part.open('ab' if resumed else 'wb') as file:
            have = have if resumed else 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
    if length is None:
        return True
    return have == int(length) + (int(start[6:-1]) if resumed else 0)


def _remember(response: HTTPResponse, tag: Path) -> None:
    etag = response.headers.get('ETag', '')
    # A weak ETag does not promise the same bytes, and may not be used to go on.
    version = etag if etag and not etag.startswith('W/') else response.headers.get('Last-Modified')
    if version:
        tag.write_text(version)
    else:
        tag.unlink(missing_ok=True)


def _check_room(part: Path, length: str | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if length is not None and int(length) > free:
        raise DataError(f'{part.parent}: {length} bytes are to come, {free} are free')


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
