"""A real MMPose, asked through processes: its Python is not this one."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

DEFAULT = Path('~/.cache/psa-pose/mmpose').expanduser()  # make_environment.sh's
Run = Callable[..., str]


@pytest.fixture(scope='session')
def mmpose_python() -> Path:
    """The Python of an environment with MMPose: `MMPOSE_PYTHON`, or what `make mmpose` set up."""
    if given := os.environ.get('MMPOSE_PYTHON'):
        return Path(given)  # one that is not there is an error
    if not (DEFAULT / '.ready-1').is_file():
        pytest.skip(f'no MMPose in {DEFAULT}: `make mmpose` sets one up')
    return DEFAULT / 'bin' / 'python'


@pytest.fixture
def run(mmpose_python: Path, tmp_path: Path) -> Run:
    """Run a command in a folder that is not this project's; returns what it prints.

    `python` and `pip` are MMPose's, `psa-pose` is this environment's.
    """
    names = tmp_path / 'bin'
    names.mkdir()
    (names / 'psa-pose').symlink_to(Path(sys.executable).with_name('psa-pose'))
    folder = tmp_path / 'work'
    folder.mkdir()

    def command(
        *arguments: str | Path, cwd: Path = folder, timeout: float = 240, **variables: str
    ) -> str:
        environment = {
            **os.environ,
            'PATH': os.pathsep.join(
                [str(names), str(mmpose_python.parent), os.environ.get('PATH', os.defpath)]
            ),
            'PYTHONPATH': str(ROOT),
            'PYTHONWARNINGS': 'ignore',
            'OMP_NUM_THREADS': '1',
            **variables,
        }
        done = subprocess.run(
            [str(a) for a in arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f'{_line(arguments)} ended with {done.returncode}:\n{output}'
        return output

    return command


def _line(arguments: Sequence[str | Path]) -> str:
    return ' '.join(map(str, arguments))
