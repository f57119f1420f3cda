"""A data loader that can be stopped anywhere and go on with the very next batch."""

import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from psa_pose.datasets import workers
from psa_pose.datasets.base import TopdownDataset
from psa_pose.datasets.collate import collate, packed_size, unpack
from psa_pose.datasets.sampling import EpochBatches, Layout, RankBatches, spacing
from psa_pose.datasets.worker_errors import explain
from psa_pose.errors import DataError
from psa_pose.structures import PoseBatch

POLL = 1.0  # seconds between two looks at the workers, while a batch is waited for


class PoseDataLoader(DataLoader[PoseBatch]):
    """Batches of persons: shuffled anew each epoch in training, in order otherwise.

    `state_dict` says which samples have been handed out; Lightning saves it with a checkpoint.

    Args:
        dataset: of persons.
        batch_size: of one rank.
        train: shuffle, drop the last incomplete batch, and remember the position.
        num_workers: processes; 0 loads in the main one.
        seed: of the order.
        rank: of this process.
        ranks: how many processes share an epoch.
        pin_memory: keep batches in page-locked memory, for a GPU.
        timeout: seconds to wait for a batch of the workers, 0 for ever.

    Iterating raises, and ends the workers:
        DataError: a person cannot be loaded; says which file.
        WorkerError: a worker died or hangs, or shared memory is too small.
    """

    def __init__(
        self,
        dataset: Dataset[PoseBatch],
        batch_size: int,
        *,
        train: bool,
        num_workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        pin_memory: bool = False,
        timeout: float = 600,
    ) -> None:
        size = len(dataset)  # type: ignore[arg-type]
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if train and size < batch_size * ranks:
            raise ValueError(
                f'a batch of {batch_size} x {ranks} is larger than the dataset of {size} persons'
            )
        if not train and size < ranks:
            raise ValueError(f'{size} persons cannot be shared by {ranks} processes')
        if timeout < 0:
            raise ValueError(f'timeout must be at least 0 (for ever), got {timeout}')
        self.batch_bytes = _batch_bytes(dataset, batch_size)
        self._train = train
        images = getattr(dataset, 'image_ids', np.arange(size))
        self._batches = EpochBatches(images, batch_size, rank, ranks, seed, spacing(num_workers))
        self._resumed = False
        self._taken = 0  # samples of the current epoch that were handed out, over all ranks
        super().__init__(
            dataset,
            batch_sampler=self._batches if train else RankBatches(images, batch_size, rank, ranks),
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            timeout=timeout if num_workers else 0,
            persistent_workers=num_workers > 0,
            worker_init_fn=_start_worker if num_workers else None,
            multiprocessing_context=workers.context() if num_workers else None,
        )

    def __iter__(self) -> Iterator[PoseBatch]:  # type: ignore[override]
        try:
            yield from self._training_batches() if self._train else self._loaded_batches()
        except (Exception, KeyboardInterrupt) as error:
            meaning = self._meaning(error)
            self._end_workers(error)
            if meaning is None:
                raise
            try:
                raise meaning.with_traceback(None) from None
            finally:
                del meaning  # else it and this frame hold each other, and the loader

    def _meaning(self, error: BaseException) -> Exception | None:
        """What a user is told; None where it is a bug, of a transform say, which is told itself."""
        if isinstance(error, DataError):  # PyTorch adds the worker's traceback to the message
            return DataError(str(error).rpartition('DataError: ')[2].strip())
        of_workers = isinstance(error, RuntimeError | OSError | EOFError | MemoryError)
        return explain(error, self) if self.num_workers and of_workers else None

    def _training_batches(self) -> Iterator[PoseBatch]:
        if not self._resumed:
            self.finish_epoch()
        self._resumed = False
        self._batches.start = self._taken
        for batch in self._loaded_batches():
            self._taken += self._batches.global_batch
            yield batch

    def _loaded_batches(self) -> Iterator[PoseBatch]:
        if not self.num_workers:
            yield from super().__iter__()
            return
        if self._iterator is None:
            workers.check_shared_memory(self)
        else:
            self._iterator._timeout = 0  # the watchdog has the limit
        workers.watch(self)
        with workers.Watchdog(self, POLL) as watchdog:
            with watchdog.waiting():
                batches: Any = super().__iter__()
            batches._timeout = POLL
            while True:
                with watchdog.waiting():
                    batch = _next(batches)
                if batch is None:
                    return
                yield unpack(batch)

    def _get_iterator(self) -> Any:
        return workers.LoaderIterator(self) if self.num_workers else super()._get_iterator()

    @property
    def workers(self) -> Sequence[BaseProcess]:
        """The worker processes, dead or alive; none before the first batch is asked for."""
        return getattr(self._iterator, '_workers', ())

    @property
    def shared_memory_needed(self) -> int:
        """Bytes of all batches that exist at once."""
        prefetch = self.prefetch_factor or 0
        return workers.shared_memory_needed(self.batch_bytes, prefetch, self.num_workers)

    def _end_workers(self, error: BaseException) -> None:
        iterator: Any
        iterator, self._iterator = self._iterator, None
        if iterator is None:  # there are none
            return
        # The traceback holds the loader in a cycle, and PyTorch cannot close one that comes to
        # the garbage collector: the threads of its queues are gone by then.
        error.__traceback__ = None
        iterator._shutdown_workers()

    @property
    def taken_batches(self) -> int:
        """How many batches of the epoch have been handed out; 0 also at its end."""
        return self._taken // self._batches.global_batch

    def state_dict(self) -> dict[str, Any]:
        """The epoch and its layout, and how many samples, over all ranks, have been handed out."""
        return self._position(self._batches.epoch, self._taken, self._batches.layout)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, whatever the number of ranks or workers was then."""
        batches = self._batches
        layout = Layout(*state.get('layout', batches.own_layout))
        position = self._position(state['epoch'], state['samples'], layout)
        batches.epoch, self._taken = position['epoch'], position['samples']
        batches.layout = Layout(*position['layout'])
        self._resumed = True

    def finish_epoch(self) -> None:
        """Declare the epoch over, also where not all of it was asked for."""
        if self._taken:
            self._batches.epoch, self._taken = self._batches.epoch + 1, 0
            self._batches.layout = self._batches.own_layout

    def _position(self, epoch: int, samples: int, layout: Layout) -> dict[str, Any]:
        if samples + self._batches.global_batch > self._batches.size:  # no whole batch is left
            epoch, samples = epoch + 1, 0
        if not samples:
            layout = self._batches.own_layout
        return {'epoch': epoch, 'samples': samples, 'layout': list(layout)}


def _next(batches: Iterator[Any]) -> Any:
    """The next batch, however long it takes; None after the last."""
    while True:
        try:
            return next(batches, None)
        except RuntimeError as error:  # a look at the workers, nothing has changed
            if not str(error).startswith('DataLoader timed out'):
                raise


def _batch_bytes(dataset: Dataset[PoseBatch], batch_size: int) -> int:
    """Of a batch in shared memory; 0 where the dataset's samples are not known beforehand."""
    if not isinstance(dataset, TopdownDataset):
        return 0
    sample = [np.asarray(field).nbytes for field in dataset.blank(0)]
    return workers.tensor_bytes([sum(packed_size(size * batch_size) for size in sample)])


def _start_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # the workers are the parallelism
    # What a terminal or a scheduler sends to all processes is the main one's business: it still
    # needs batches to come to the next step. A second SIGTERM is its own, to a worker that hangs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sys.excepthook = _silent_about_connections


def _silent_about_connections(kind: type[BaseException], error: Any, traceback: Any) -> None:
    """A thread hands tensors to the main process; where that stops, it says why itself."""
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, traceback)
