"""Worker processes that die, hang or find no shared memory: what became of them and what to do.

PyTorch tells of a dead worker by a RuntimeError, raised wherever the main thread is, with a
process id and no cause. Here it becomes a `WorkerError` that a user can act upon.
"""

import errno
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet

from torch.utils.data._utils import signal_handling

from psa_pose.datasets import system
from psa_pose.errors import WorkerError

_PAGE = 4096
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


class Loader(Protocol):
    """What is asked of a loader."""

    num_workers: int
    timeout: float
    batch_bytes: int

    @property
    def shared_memory_needed(self) -> int:
        """In bytes."""

    @property
    def workers(self) -> Sequence[BaseProcess]:
        """Its processes, dead or alive."""


_loaders: WeakSet[Any] = WeakSet()
_waiting: list[Loader] = []


def tensor_bytes(sizes: Iterable[int]) -> int:
    """Shared memory that tensors of these sizes in bytes take: whole pages."""
    return sum(-(-size // _PAGE) * _PAGE for size in sizes)


def shared_memory_needed(batch_bytes: int, prefetch: int, workers: int) -> int:
    """Bytes of all batches that exist at once (prefetched, in use, next) and of the queues' locks.

    Args:
        batch_bytes: of one, see `tensor_bytes`.
        prefetch: batches that each worker makes in advance.
        workers: processes.
    """
    locks = 3 * (workers + 1) + 5
    return batch_bytes * (prefetch * workers + 2) + locks * _PAGE if workers else 0


def check_shared_memory(loader: Loader) -> None:
    """Stop before the start where the batches will not fit.

    Raises:
        WorkerError: says how much there is and how much is needed.
    """
    if loader.num_workers and system.SHARED_MEMORY.is_dir():
        _, free = system.shared_memory()
        if free < loader.shared_memory_needed:
            raise _too_little(loader)


def watch(loader: Loader) -> None:
    """See to it that a dead worker of `loader` is told of where a batch is waited for, only there.

    PyTorch raises wherever the main thread is when SIGCHLD comes: in writing a checkpoint, or
    between taking a lock and the block that gives it back. To be called before the workers start.
    """
    _loaders.add(loader)
    if threading.current_thread() is not threading.main_thread():
        return
    signal_handling._set_SIGCHLD_handler()
    theirs = signal.getsignal(signal.SIGCHLD)
    if not callable(theirs) or getattr(theirs, '__module__', None) == __name__:
        return

    def handler(number: int, frame: FrameType | None) -> None:
        try:
            theirs(number, frame)
        except RuntimeError as error:
            # Half a message was sent, and the rest is waited for; all other waits end by themselves
            if _waiting and frame is not None and frame.f_code.co_name == '_recv':
                raise explain(error, *_loaders) or error from None

    signal.signal(signal.SIGCHLD, handler)


@contextmanager
def waiting_for(loader: Loader) -> Iterator[None]:
    """Where the death of a worker, of whichever loader, may be raised.

    Raises:
        WorkerError: one of `loader` is dead already, or dies now.
    """
    _waiting.append(loader)
    try:
        check_alive(loader)
        yield
    finally:
        _waiting.remove(loader)


class Watchdog(threading.Thread):
    """Kills workers that a batch is fetched from in vain, so that the fetching ends with an error.

    PyTorch limits the wait for a batch's announcement alone. Its memory is then asked of the
    worker, without a limit, and one that is stopped, or frozen with its container, never answers.

    Args:
        loader: whose `timeout` counts.
        poll: seconds between two looks; the time that a stopped job slept counts as one.

    Attributes:
        fetch: changes with every batch that is waited for, None in between.
        error: why the workers were killed, or None.
    """

    def __init__(self, loader: Loader, poll: float) -> None:
        super().__init__(daemon=True)
        self.loader, self.poll = loader, poll
        self.fetch: int | None = None
        self.error: WorkerError | None = None
        self._done = threading.Event()

    def __enter__(self) -> 'Watchdog':
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()  # it holds the loader

    def run(self) -> None:
        """Until the context ends."""
        seen, looks = None, 0
        while not self._done.wait(self.poll):
            looks = looks + 1 if self.fetch is not None and self.fetch == seen else 0
            seen = self.fetch
            if looks * self.poll > self.loader.timeout > 0:
                self.error = _hung(self.loader)
                for worker in self.loader.workers:
                    worker.kill()
                return


def check_alive(loader: Loader) -> None:
    """Raises WorkerError where a worker is dead."""
    for worker in loader.workers:
        if not worker.is_alive():
            raise _dead(worker, loader)


def explain(error: BaseException, *loaders: Loader) -> WorkerError | None:
    """What an error of PyTorch's loader means; None where it is none of workers.

    Args:
        error: as it was raised.
        loaders: one of which it is about.
    """
    if isinstance(error, WorkerError):
        return error
    text = str(error)
    if found := re.search(r'worker \(pid(?:\(s\))? (\d+)', text):
        for loader in loaders:
            for worker in loader.workers:
                if worker.pid == int(found[1]):
                    return _dead(worker, loader)
        return WorkerError(text)
    if len(loaders) != 1:
        return None
    loader = loaders[0]
    if isinstance(error, ConnectionError | FileNotFoundError | EOFError):  # to a dying worker
        for worker in loader.workers:
            worker.join(0.1)
            if not worker.is_alive():
                return _dead(worker, loader)
        return None
    if 'timed out after' in text:
        return _hung(loader)
    if 'Too many open files' in text or 'items of ancdata' in text:
        return WorkerError(
            f'the {loader.num_workers} workers and this process have too many files open: raise '
            'the limit (ulimit -n) or use fewer workers (num_workers)'
        )
    if re.search(r'shared memory|</torch_', text) or _is(error, errno.ENOSPC):
        return _too_little(loader)
    if 'MemoryError' in text or "can't allocate memory" in text or _is(error, errno.ENOMEM):
        return WorkerError(f'a worker found no memory: {system.memory()}; {_less(loader)}')
    return None


def _is(error: BaseException, number: int) -> bool:
    return isinstance(error, OSError) and error.errno == number


def _dead(worker: BaseProcess, loader: Loader) -> WorkerError:
    who = f'worker {list(loader.workers).index(worker)} of {loader.num_workers} (pid {worker.pid})'
    worker.join(1)  # PyTorch may know before its status can be read
    code = worker.exitcode
    if code is None or code >= 0:
        return WorkerError(f'{who} ended by itself with exit status {code}; {_alone()}')
    name = signal.Signals(-code).name
    if -code == signal.SIGBUS:
        return WorkerError(f'{who} was killed by {name}: {_too_little(loader)}')
    if -code == signal.SIGKILL:
        return WorkerError(
            f'{who} was killed by {name}, most likely by the system for want of memory (dmesg '
            f'says so): {system.memory()}; {_less(loader)}'
        )
    if -code in _CRASHES:
        return WorkerError(
            f'{who} was killed by {name}: a crash in compiled code, as of an image decoder; '
            f'{_alone()}'
        )
    return WorkerError(
        f'{who} was killed by {name}, from outside: by a person or a scheduler', -code
    )


def _alone() -> str:
    return 'num_workers=0 and python -X faulthandler show where'


def _less(loader: Loader) -> str:
    return (
        f'use fewer workers (num_workers, now {loader.num_workers}) or smaller batches, or give '
        'the job more memory'
    )


def _too_little(loader: Loader) -> WorkerError:
    total, free = system.shared_memory()
    return WorkerError(
        f'too little shared memory: {system.SHARED_MEMORY} has {_mb(total)}, {_mb(free)} of it '
        f'free, but {loader.num_workers} workers need {_mb(loader.shared_memory_needed)} (a batch '
        f'is {_mb(loader.batch_bytes)}; each rank needs as much): enlarge it (docker run '
        '--shm-size=... or --ipc=host; mount -o remount,size=... '
        f'{system.SHARED_MEMORY}), or use fewer workers (num_workers) or smaller batches'
    )


def _mb(size: int) -> str:
    return f'{size / 1e6:.1f} MB'


def _hung(loader: Loader) -> WorkerError:
    doing = '; '.join(
        f'{i} (pid {w.pid}) is {system.doing(w)}' for i, w in enumerate(loader.workers)
    )
    return WorkerError(
        f'no batch for {loader.timeout:g} s. Workers: {doing}. Is the disk or network file system '
        'of the images stuck? The option `timeout` of the dataloader sets how long to wait (0: for '
        'ever)'
    )
