"""Files are whole or not there: errors, kills, and targets that are no plain file."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from psa_pose.files import replaced, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_with_its_ending_and_in_place(tmp_path: Path) -> None:
    with replaced(tmp_path / 'x.png') as partial:
        assert partial.parent == tmp_path and partial.suffix == '.png'  # what OpenCV goes by
        partial.write_bytes(b'pixels')
        assert not (tmp_path / 'x.png').exists()
    assert (tmp_path / 'x.png').read_bytes() == b'pixels'
    write_json(tmp_path / 'x.json', {'K\u00f6rper': [1.5, None]})
    assert json.loads((tmp_path / 'x.json').read_text('utf-8')) == {'K\u00f6rper': [1.5, None]}
    assert names(tmp_path) == ['x.json', 'x.png']


def test_memory_s_files_are_files() -> None:
    if not os.access('/dev/shm', os.W_OK):
        pytest.skip('no /dev/shm')
    with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
        with replaced(Path(folder, 'x.txt')) as partial:
            partial.write_text('half')
            assert names(Path(folder)) == [partial.name] != ['x.txt']
        assert names(Path(folder)) == ['x.txt']


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / 'x.txt', 'old')
    with pytest.raises(type(error)), replaced(tmp_path / 'x.txt') as partial:
        partial.write_text('new, as far as it went')
        raise error
    assert (tmp_path / 'x.txt').read_text() == 'old'
    assert names(tmp_path) == ['x.txt']


def test_a_rename_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / 'x.txt', 'old')

    def fails(*_: object) -> None:
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'replace', fails)
    with pytest.raises(OSError, match='Input/output error'):
        write_text(tmp_path / 'x.txt', 'new')
    assert (tmp_path / 'x.txt').read_text() == 'old'
    assert names(tmp_path) == ['x.txt']


def test_no_folder_is_the_systems_own_error_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_text(tmp_path / 'none/x.txt', 'new')
    assert str(error.value).endswith(f"'{tmp_path}/none/x.txt'")


def test_kill_9_amidst_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / 'x.txt'
    path.write_text('old')
    program = f"""
import time
from pathlib import Path
from psa_pose.files import replaced
with replaced(Path({str(path)!r})) as partial:
    partial.write_text('half')
    print('half', flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == 'half\n'
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert path.read_text() == 'old'
    write_text(path, 'new')  # what the killed one left is not in the way
    assert path.read_text() == 'new'
    left = [name for name in names(tmp_path) if name != 'x.txt']
    assert len(left) == 1 and left[0].startswith('.x.') and left[0].endswith('.partial.txt')


def test_several_writers_of_one_file(tmp_path: Path) -> None:
    """Runners of one study end together, and write the same tables."""
    texts = [str(i) * 100_000 for i in range(4)]

    def write(text: str) -> None:
        for _ in range(50):
            write_text(tmp_path / 'x.txt', text)
            assert (tmp_path / 'x.txt').read_text() in texts

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert names(tmp_path) == ['x.txt']


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/x.txt').write_text('old')
    (tmp_path / 'x.txt').symlink_to('elsewhere/x.txt')
    write_text(tmp_path / 'x.txt', 'new')
    assert (tmp_path / 'x.txt').is_symlink()
    assert (tmp_path / 'elsewhere/x.txt').read_text() == 'new'
    assert names(tmp_path / 'elsewhere') == ['x.txt']
    (tmp_path / 'x.png').symlink_to('elsewhere/x.txt')
    with replaced(tmp_path / 'x.png') as partial:
        assert partial.suffix == '.png'
        partial.touch()


def test_the_mode_stays(tmp_path: Path) -> None:
    write_text(tmp_path / 'x.txt', 'old')
    (tmp_path / 'x.txt').chmod(0o640)
    write_text(tmp_path / 'x.txt', 'new')
    assert (tmp_path / 'x.txt').stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize('to', ['pipe', 'file'])
def test_standard_output(tmp_path: Path, to: str) -> None:
    """`--json /dev/stdout`, in a pipeline and with `>`: the stream is not replaced."""
    program = 'from psa_pose.files import *; write_json(Path("/dev/stdout"), [1])'
    log = tmp_path / 'log'
    with log.open('wb') as file:
        stdout = file if to == 'file' else subprocess.PIPE
        done = subprocess.run([sys.executable, '-c', program], stdout=stdout, check=True)
        inode = os.fstat(file.fileno()).st_ino
    assert (done.stdout if to == 'pipe' else log.read_bytes()) == b'[\n 1\n]\n'
    assert log.stat().st_ino == inode
    assert names(tmp_path) == ['log']


def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    writer = threading.Thread(target=write_text, args=(tmp_path / 'pipe', 'content'))
    writer.start()
    assert (tmp_path / 'pipe').read_text() == 'content'
    writer.join()
    assert (tmp_path / 'pipe').is_fifo()
    assert names(tmp_path) == ['pipe']
