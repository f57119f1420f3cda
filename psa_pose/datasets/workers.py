"""Worker processes that may die or hang at any moment, and nobody who waits for them for ever.

PyTorch raises that a worker died wherever the main thread is, asks for locks and messages of dead
workers, and has no limit for some of its waits. What became of a worker: see `worker_errors`.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import count
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any
from weakref import WeakSet

from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from psa_pose.datasets import system
from psa_pose.datasets.worker_errors import (
    ABOUT_THE_DYING,
    Loader,
    dead,
    explain,
    hung,
    too_little_shared_memory,
)
from psa_pose.errors import WorkerError

_PAGE = 4096
_loaders: WeakSet[Any] = WeakSet()
_processes: WeakSet[BaseProcess] = WeakSet()
_waiting: list[Loader] = []
if hasattr(os, 'register_at_fork'):  # they are the parent's
    os.register_at_fork(after_in_child=_loaders.clear)
    os.register_at_fork(after_in_child=_processes.clear)


class Flag:
    """An event of processes without a lock: what they ask for, nobody can take into death.

    PyTorch's workers ask with every batch whether all is over. multiprocessing's event has a lock,
    and one that is killed while it has it makes all others wait for ever, the main process too.

    Args:
        context: of the processes.
    """

    def __init__(self, context: BaseContext) -> None:
        self._value = context.RawValue('b', 0)

    def set(self) -> None:
        """For good."""
        self._value.value = 1

    def is_set(self) -> bool:
        """Whether `set` was called in any process."""
        return bool(self._value.value)


def context() -> BaseContext:
    """Of worker processes, with `Flag` for events.

    What `set_start_method` chose; else, on Linux, fork under every version of Python. Under
    Python 3.14's forkserver each worker imports PyTorch anew, and shares none of its memory.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen is None and sys.platform == 'linux':
        chosen = 'fork'
    theirs = multiprocessing.get_context(chosen)
    ours = copy(theirs)
    vars(ours).update(Event=partial(Flag, theirs), Process=partial(_process, theirs))
    return ours


def _process(context: Any, *args: Any, **options: Any) -> BaseProcess:
    worker: BaseProcess = context.Process(*args, **options)
    _processes.add(worker)
    return worker


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
    locks = 3 * (workers + 1) + 1
    return batch_bytes * (prefetch * workers + 2) + locks * _PAGE if workers else 0


def check_shared_memory(loader: Loader) -> None:
    """Stop before the start where the batches will not fit.

    Raises:
        WorkerError: says how much there is and how much is needed.
    """
    if loader.num_workers and system.SHARED_MEMORY.is_dir():
        _, free = system.shared_memory()
        if free < loader.shared_memory_needed:
            raise too_little_shared_memory(loader)


def watch(loader: Loader) -> None:
    """See to it that a dead worker of `loader` is told of where a batch is waited for, only there.

    PyTorch raises wherever the main thread is when SIGCHLD comes: in writing a checkpoint, or
    between taking a lock and the block that gives it back. To be called before the workers start.
    """
    _loaders.add(loader)
    _quiet_pinning()
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
            # Half a message was sent, and the rest is waited for; other waits notice by themselves,
            # or the watchdog ends them
            if _waiting and frame is not None and frame.f_code.co_name == '_recv':
                raise explain(error, *_loaders) or error from None

    signal.signal(signal.SIGCHLD, handler)


def _quiet_pinning() -> None:
    """No traceback of the thread that pins memory, where it asked a dead worker for a batch."""
    theirs = threading.excepthook
    if getattr(theirs, '__module__', None) == __name__:
        return

    def hook(args: Any) -> None:
        pinning = args.thread is not None and '_pin_memory_loop' in args.thread.name
        if not (pinning and issubclass(args.exc_type, ABOUT_THE_DYING)):
            theirs(args)

    threading.excepthook = hook


class Watchdog(threading.Thread):
    """The limit of a wait for workers: kills them, and the wait ends with an error.

    PyTorch's own is one for a batch's announcement alone. Its memory is then asked of the worker,
    and one that is stopped, or frozen with its container, never answers.

    Args:
        loader: whose `timeout` counts.
        poll: seconds between two looks; the time that a stopped job slept counts as one.

    Attributes:
        error: why the workers were killed, or None.
    """

    def __init__(self, loader: Loader, poll: float) -> None:
        super().__init__(daemon=True)
        self.error: WorkerError | None = None
        self._loader, self._poll = loader, poll
        self._waits = count()
        self._wait: int | None = None
        self._over = threading.Event()

    def __enter__(self) -> 'Watchdog':
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()  # it holds the loader

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For one batch: where the death of a worker, of whichever loader, may be raised.

        Raises:
            WorkerError: one of this loader is dead already, or the wait was too long.
        """
        _waiting.append(self._loader)
        self._wait = next(self._waits)
        try:
            for worker in self._loader.workers:
                if not worker.is_alive():
                    raise dead(worker, self._loader)
            yield
        except (RuntimeError, OSError, EOFError) as error:
            raise self.error or error from None
        finally:
            self._wait = None
            _waiting.remove(self._loader)

    def run(self) -> None:
        """Until the context ends."""
        seen, looks = None, 0
        while not self._over.wait(self._poll):
            looks = looks + 1 if self._wait is not None and self._wait == seen else 0
            seen = self._wait
            started = len(self._loader.workers) > 0  # a slow start is no hanging worker
            if started and looks * self._poll >= self._loader.timeout > 0:
                self.error = hung(self._loader)
                for worker in self._loader.workers:
                    worker.kill()
                return


@atexit.register
def _end_all() -> None:
    """No worker keeps Python from ending: of a loader that a traceback holds, or one that hangs.

    multiprocessing, whose own way comes after this one, would terminate them and wait. A first
    SIGTERM they leave to the main process, and one that hangs in compiled code handles none.
    """
    for worker in _processes:
        if worker.is_alive():
            worker.kill()


class LoaderIterator(_MultiProcessingDataLoaderIter):
    """PyTorch's, whose end waits for nobody: not for a worker that hangs, nor for half a message.

    Args:
        loader: that it is of.
    """

    def __init__(self, loader: Any) -> None:
        self._pid = os.getpid()
        self._workers_status = [True] * loader.num_workers  # the end asks for it
        try:
            super().__init__(loader)
        except BaseException:  # half of them may run
            self._shutdown_workers()
            raise

    def _try_get_data(self, *args: Any, **options: Any) -> Any:
        found = super()._try_get_data(*args, **options)
        if not found[0] and self._pin_memory and not self._pin_memory_thread.is_alive():
            raise RuntimeError('Pin memory thread exited unexpectedly')
        return found

    def _shutdown_workers(self) -> None:
        if os.getpid() != self._pid:  # a fork has none of them
            return
        # This thread would be waited for, and it reads messages to the end, also a dead worker's.
        if vars(self).pop('_pin_memory_thread', None):
            self._pin_memory_thread_done_event.set()
        for worker in self._workers:
            worker.kill()
        super()._shutdown_workers()
