"""What became of a worker process, and what to do: it died, hangs or finds no shared memory.

PyTorch tells of a dead worker by a RuntimeError with a process id and no cause. Here it becomes a
`WorkerError` that a user can act upon.
"""

import errno
import re
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Protocol

from psa_pose.datasets import system
from psa_pose.errors import WorkerError, signal_name

ABOUT_THE_DYING = (ConnectionError, FileNotFoundError, EOFError)  # of who asks a dead one
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
                    return dead(worker, loader)
        return WorkerError(text)
    if len(loaders) != 1:
        return None
    loader = loaders[0]
    if isinstance(error, ABOUT_THE_DYING) or 'Pin memory thread exited' in text:
        for worker in loader.workers:
            worker.join(0.1)
            if not worker.is_alive():
                return dead(worker, loader)
        return None
    if 'Too many open files' in text or 'items of ancdata' in text:
        return WorkerError(
            f'the {loader.num_workers} workers and this process have too many files open: raise '
            'the limit (ulimit -n) or use fewer workers (num_workers)'
        )
    if re.search(r'shared memory|</torch_', text) or _is(error, errno.ENOSPC):
        return too_little_shared_memory(loader)
    if 'MemoryError' in text or "can't allocate memory" in text or _is(error, errno.ENOMEM):
        return WorkerError(f'a worker found no memory: {system.memory()}; {_less(loader)}')
    return None


def _is(error: BaseException, number: int) -> bool:
    return isinstance(error, OSError) and error.errno == number


def dead(worker: BaseProcess, loader: Loader) -> WorkerError:
    """A worker of `loader` has died: of what."""
    who = f'worker {list(loader.workers).index(worker)} of {loader.num_workers} (pid {worker.pid})'
    worker.join(1)  # PyTorch may know before its status can be read
    code = worker.exitcode
    if code is None or code >= 0:
        return WorkerError(f'{who} ended by itself with exit status {code}; {_alone()}')
    name = signal_name(-code)
    if -code == signal.SIGBUS:
        return WorkerError(f'{who} was killed by {name}: {too_little_shared_memory(loader)}')
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


def too_little_shared_memory(loader: Loader) -> WorkerError:
    """How much there is, and how much all batches of `loader` need."""
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


def hung(loader: Loader) -> WorkerError:
    """No batch came within the limit: what each worker is doing."""
    doing = '; '.join(
        f'{i} (pid {w.pid}) is {system.doing(w)}' for i, w in enumerate(loader.workers)
    )
    return WorkerError(
        f'no batch for {loader.timeout:g} s. Workers: {doing}. Is the disk or network file system '
        'of the images stuck? The option `timeout` of the dataloader sets how long to wait (0: for '
        'ever)'
    )
