"""Several processes that train as one, really launched: by torchrun, or with nothing but RANK and
WORLD_SIZE; on this machine, or on 'nodes' that are network namespaces with a cable between them.

Each process leads a session of its own, by which all that it leaves behind is found, and is forked
from a clean one that has imported everything (see tests/processes.py), into its node.
"""

import faulthandler
import os
import runpy
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cluster.nodes import Node
from tests.conftest import ROOT
from tests.processes import CONFIG, CONTEXT

CONTEXT.set_forkserver_preload(
    [
        'psa_pose.engine.train',
        'tensorboard.summary',
        'tests.processes',
        'torch.distributed.run',
        __name__,
    ]
)
os.environ['TORCH_CPP_LOG_LEVEL'] = 'ERROR'  # psa_pose.cli's comes after the preloads
MARK = 'PSA_POSE_TEST_RUN'
"""A variable that all descendants have: children of torchrun lead sessions of their own."""
QUIET = {'OMP_NUM_THREADS': '1'}


class Started:
    """A process that is forked from a clean one and leads a session.

    Args:
        log: file for what it says.
        call: what it runs, and its arguments; they are pickled.
        node: where; None stays on this machine.
        environment: variables over those of the clean process.
    """

    def __init__(
        self, log: Path, call: Callable[..., Any], *args: Any, node: Node | None, **environment: str
    ) -> None:
        self.log_file, self.mark = log, uuid.uuid4().hex
        variables = {**QUIET, **environment, MARK: self.mark}
        self.process: Any = CONTEXT.Process(
            target=_run, args=(str(log), node, variables, call, args)
        )
        self.process.start()
        self.ended_at = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors='replace') if self.log_file.exists() else ''

    @property
    def errors(self) -> list[str]:
        return [line for line in self.log.splitlines() if line.startswith('error:')]

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal's; None of a process that lives."""
        return self.process.exitcode

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def everyone(self) -> list[int]:
        """Ids of what lives of it and its descendants."""
        return [
            pid for pid, session, mark in _processes() if self.pid == session or self.mark == mark
        ]

    def kill_all(self) -> None:
        """As if the power went out."""
        while left := self.everyone():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.process.join()


class Job:
    """Processes that belong together, none of which outlives `with`.

    Args:
        folder: for their logs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.members: list[Started] = []

    def __enter__(self) -> 'Job':
        return self

    def __exit__(self, *error: Any) -> None:
        for member in self.members:
            member.kill_all()

    def __getitem__(self, rank: int) -> Started:
        return self.members[rank]

    def rank(
        self, rank: int, ranks: int, *arguments: str, port: int, address: str = '127.0.0.1',
        node: Node | None = None, command: str = 'train', **environment: str,
    ) -> Started:  # fmt: skip
        """Start one that has RANK, WORLD_SIZE and the address, and no LOCAL_RANK."""
        env = {'RANK': str(rank), 'WORLD_SIZE': str(ranks), 'MASTER_ADDR': address}
        env |= {'MASTER_PORT': str(port), **environment}
        return self.start(f'rank{rank}', _command, [command, *arguments], node=node, **env)

    def torchrun(
        self, options: Sequence[str], *arguments: str, node: Node | None = None, **environment: str
    ) -> Started:
        """Start an agent of torchrun, which starts `tools/train.py` as it always does."""
        words = [*options, 'tools/train.py', *arguments]
        return self.start('torchrun', _torchrun, words, node=node, **environment)

    def start(self, name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Started:
        log = self.folder / f'{len(self.members)}_{name}.log'
        self.members.append(Started(log, call, *args, **options))
        return self.members[-1]

    @property
    def errors(self) -> list[str]:
        """The lines of all of them for their user."""
        return [line for member in self.members for line in member.errors]

    @property
    def log(self) -> str:
        return '\n'.join(f'--- {m.log_file.stem}\n{m.log}' for m in self.members)

    def wait_for(
        self, text: str, within: float = 60, member: int | None = None, times: int = 1
    ) -> None:
        end = time.monotonic() + within
        while (self.log if member is None else self[member].log).count(text) < times:
            alive = any(m.status is None for m in self.members)
            assert alive and time.monotonic() < end, f'no {text!r}: {self.log}'
            time.sleep(0.01)

    def wait(self, within: float = 60, *, but: Sequence[int] = ()) -> list[int | None]:
        """The exit statuses, once all but some have ended; nobody may leave a process behind."""
        end = time.monotonic() + within
        waited = [m for n, m in enumerate(self.members) if n not in but]
        while any(m.status is None for m in waited):
            if time.monotonic() > end:
                for member in waited:  # the stacks of their threads go to their logs
                    with suppress(ProcessLookupError):
                        member.send(signal.SIGUSR2)
                time.sleep(0.5)
                raise AssertionError(f'still running after {within} s: {self.log}')
            time.sleep(0.01)
        left = [pid for m in waited for pid in _left(m)]
        assert not left, f'left behind: {left}'
        return [m.status for m in self.members]


def launch(
    job: Job, work_dir: Path, *arguments: str, ranks: int = 2, config: Path = CONFIG,
    nodes: Sequence[Node] | None = None, own: dict[int, Sequence[str]] | None = None,
    **environment: str,
) -> Job:  # fmt: skip
    """Start all ranks of a training by hand.

    Args:
        job: theirs.
        work_dir: of all.
        arguments: of all, after the config.
        ranks: how many.
        config: file.
        nodes: of the ranks.
        own: further arguments of single ranks.
        environment: of all.
    """
    port, address = (29500, nodes[0].name) if nodes else (free_port(), '127.0.0.1')
    for rank in range(ranks):
        more = (own or {}).get(rank, ())
        job.rank(
            rank, ranks, str(config), '--work-dir', str(work_dir), *arguments, *more, port=port,
            address=address, node=nodes[rank] if nodes else None, **environment,
        )  # fmt: skip
    return job


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def _run(
    log: str, node: Node | None, environment: dict[str, str], call: Callable[..., Any], args: Any
) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
    os.environ.update(environment)
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable(file=2)  # the stacks of a crash, too
    faulthandler.register(signal.SIGUSR2, file=2)
    if node is not None:
        node.enter()
    call(*args)


def _command(arguments: list[str]) -> None:
    import multiprocessing

    import torch

    multiprocessing.set_start_method(None, force=True)  # of workers: as in a process of its own
    torch.set_num_threads(1)
    from psa_pose.cli import main

    raise SystemExit(main(arguments))


def _torchrun(arguments: list[str]) -> None:
    """`python -m torch.distributed.run`, without seconds of imports."""
    from torch.distributed import run

    sys.argv = ['torchrun', *arguments]
    runpy.run_path(run.__file__, run_name='__main__')


def _left(member: Started) -> list[int]:
    """What still lives after a moment in which children may follow their parent."""
    for _ in range(100):
        if not (left := member.everyone()):
            return []
        time.sleep(0.02)
    return left


def _processes() -> Iterator[tuple[int, int, str]]:
    """Id, session and mark of all that live and are no zombies."""
    for entry in Path('/proc').iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):
                words = (entry / 'stat').read_text().rpartition(')')[2].split()
                variables = (entry / 'environ').read_bytes().split(b'\0')
                mark = next((v for v in variables if v.startswith(MARK.encode() + b'=')), b'')
                if words[0] not in 'ZX':
                    yield int(entry.name), int(words[3]), mark.decode().partition('=')[2]
