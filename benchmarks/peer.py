"""The real MMPose in an environment of its own, asked by one JSON line and answering with one.

A benchmark that compares starts itself a second time, with the peer's Python and `--serve`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PYTHON = Path('~/.cache/psa-pose/peer/bin/python').expanduser()
MISSING = 'skipped: no MMPose to compare with, {} is missing (see ../shared/peer/make_peer.sh)'


class Peer:
    """A process that waits for its turn.

    Args:
        python: of the peer's environment.
        command: the script and its arguments.
    """

    def __init__(self, python: Path, *command: str) -> None:
        self.process = subprocess.Popen(
            [str(python), '-W', 'ignore', *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,  # MMPose looks for its files in ./configs first
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f'the peer ended with exit code {self.process.wait()}; see above')
        return json.loads(line)

    def __enter__(self) -> 'Peer':
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()


def versions(*modules: str) -> dict[str, str]:
    return {name: __import__(name).__version__ for name in (*modules, 'torch', 'numpy', 'cv2')}


def serve(prepare: Callable[[], Callable[..., Any]]) -> None:
    """Be the peer: what `prepare` returns answers every line until there are no more."""
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print
    answer = prepare()
    print(json.dumps(versions('mmpose')), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=out, flush=True)
