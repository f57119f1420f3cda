"""Running a study's cells, each in a process of its own, until none is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import Any

import torch

from psa_pose.ablation.cell import FAILED, finished
from psa_pose.ablation.claim import claimed
from psa_pose.ablation.study import Cell
from psa_pose.engine.environment import gpus
from psa_pose.engine.signals import LAUNCHED, SIGNALS
from psa_pose.errors import signal_name
from psa_pose.files import write_json

POLL = 5.0  # seconds between two looks at cells that others work at


def devices(jobs: int | None) -> list[str | None]:
    """Where cells run side by side: a GPU each (its number), or None, this machine's processor.

    Args:
        jobs: how many on a processor; default 1. With GPUs, how many of them; default all.
    """
    count = gpus()
    if not count:
        return [None] * (jobs or 1)
    visible = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
    return list((visible or [str(i) for i in range(count)])[: jobs or count])


class Runner:
    """Works at cells that nobody works at; several may share a folder, on several machines.

    Args:
        cells: of the study, in the order in which they are wanted.
        folder: of the study.
        command: what runs a cell, without its name.

    Attributes:
        stopped: the signal that ended the work before all was done, or None.
    """

    def __init__(self, cells: Sequence[Cell], folder: Path, command: Sequence[str]) -> None:
        self.cells = list(cells)
        self.folder = folder
        self.command = list(command)
        self.stopped: int | None = None
        self._settled: set[str] = set()  # finished, or tried since this process began
        self._failures = {cell.name: self._failure(cell) for cell in cells}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._minutes: list[float] = []  # of the cells that finished here
        self._jobs = 1
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def run(self, where: Sequence[str | None]) -> None:
        """Work at all cells, one after another on each device, and wait for those of others."""
        self._environment = {**os.environ, LAUNCHED: str(os.getpid())}
        self._jobs = len(where)
        if len(where) > 1 and where[0] is None:
            threads = max(1, torch.get_num_threads() // len(where))
            self._environment.setdefault('OMP_NUM_THREADS', str(threads))
        with self._signals(), ThreadPoolExecutor(len(where)) as pool:
            tasks = [pool.submit(self._work, device) for device in where]
            while not all(task.done() for task in tasks):
                time.sleep(0.1)  # signals are handled between two of these
            for task in tasks:
                task.result()

    def _work(self, device: str | None) -> None:
        while self.stopped is None:
            found = self._next(device)
            if found is None:
                return
            if not found:  # others work at all that is left: one of them may fail or die
                self._wake.wait(POLL)

    def _next(self, device: str | None) -> bool | None:
        """Work at the first free cell; False where all are taken, None where none is left."""
        left = False
        for cell in self.cells:
            if self._is_settled(cell):
                continue
            left = True
            with claimed(self.folder / cell.name) as lost:
                if lost is None or self._is_settled(cell):
                    continue
                with self._lock:
                    self._settled.add(cell.name)
                if self.stopped is None:
                    self._run(cell, device, lost)
                return True
        return False if left else None

    def _is_settled(self, cell: Cell) -> bool:
        """Whether there is nothing to do: finished, or tried here or, since then, elsewhere."""
        with self._lock:
            if cell.name in self._settled:
                return True
            failed = self._failure(cell) not in (None, self._failures[cell.name])
            if failed or finished(self.folder / cell.name):
                self._settled.add(cell.name)
                return True
        return False

    def _failure(self, cell: Cell) -> int | None:
        try:
            return (self.folder / cell.name / FAILED).stat().st_mtime_ns
        except OSError:
            return None

    def _run(self, cell: Cell, device: str | None, lost: threading.Event) -> None:
        place = f' on GPU {device}' if device is not None else ''
        print(f'start     {cell.name}{place}', flush=True)
        environment = dict(self._environment)
        if device is not None:
            environment['CUDA_VISIBLE_DEVICES'] = device
        folder, started = self.folder / cell.name, time.monotonic()
        with (folder / 'log.txt').open('ab') as log:
            process = subprocess.Popen(
                [*self.command, cell.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which passes it on once
            )
        with self._lock:
            self._children[cell.name] = process
        if self.stopped is not None:
            process.terminate()
        while process.poll() is None:
            if lost.is_set():
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        with self._lock:
            del self._children[cell.name]
        minutes = (time.monotonic() - started) / 60
        if process.returncode == 0 and finished(folder):
            print(f'done      {cell.name}, {minutes:.1f} min{self._left(minutes)}', flush=True)
        elif lost.is_set():
            print(f'left      {cell.name}: another process has taken it over', file=sys.stderr)
        # A scheduler stops both, and this process may hear of it later than the cell.
        elif self.stopped is None and not self._wake.wait(1):
            why = _record_failure(folder, process.returncode)
            print(f'FAILED    {cell.name}: {why}', file=sys.stderr, flush=True)

    def _left(self, minutes: float) -> str:
        """How many cells are left, and how long they would take here alone."""
        self._minutes.append(minutes)
        with self._lock:
            running = set(self._children)
        left = sum(cell.name in running or not self._is_settled(cell) for cell in self.cells)
        estimate = sum(self._minutes) / len(self._minutes) * ceil(left / self._jobs)
        return f'; {left} left, about {estimate:.0f} min' if left else ''

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: Any) -> None:
            again, self.stopped = self.stopped is not None, number
            self._wake.set()
            for process in list(self._children.values()):
                process.kill() if again else process.terminate()
            if not again:  # `print` may be in the middle of another line
                os.write(2, b'stopping: cells save; a second signal ends them at once\n')

        before = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def leave_with_parent() -> None:
    """End this process when the runner that started it is gone: its claim is, too."""
    parent = os.environ.get(LAUNCHED)
    if parent is None:  # by hand
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _record_failure(folder: Path, status: int) -> str:
    """Write `failed.json`; a line that says why."""
    how = f'exit status {status}' if status >= 0 else f'killed by {signal_name(-status)}'
    log = folder / 'log.txt'
    lines = log.read_text(errors='replace').strip().splitlines()[-20:]
    write_json(folder / FAILED, {'how': how, 'last lines': lines})
    why = next((line for line in reversed(lines) if line.startswith('error')), '')
    return f'{how}, {why or (lines[-1] if lines else "nothing said")} ({log})'
