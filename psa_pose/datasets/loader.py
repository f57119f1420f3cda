"""A data loader that can be stopped anywhere and go on with the very next batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from psa_pose.datasets.sampling import EpochBatches, Layout, RankBatches, spacing
from psa_pose.errors import DataError
from psa_pose.structures import PoseBatch


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
    ) -> None:
        size = len(dataset)  # type: ignore[arg-type]
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if train and size < batch_size * ranks:
            raise ValueError(
                f'a batch of {batch_size} x {ranks} is larger than the dataset of {size} persons'
            )
        self._train = train
        images = getattr(dataset, 'image_ids', np.arange(size))
        self._batches = EpochBatches(images, batch_size, rank, ranks, seed, spacing(num_workers))
        self._resumed = False
        self._taken = 0  # samples of the current epoch that were handed out, over all ranks
        super().__init__(
            dataset,
            batch_sampler=self._batches if train else RankBatches(images, batch_size, rank, ranks),
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=_one_thread if num_workers else None,
        )

    def __iter__(self) -> Iterator[PoseBatch]:  # type: ignore[override]
        try:
            yield from self._training_batches() if self._train else super().__iter__()
        except DataError as error:  # PyTorch adds the worker's traceback to the message
            raise DataError(str(error).rpartition('DataError: ')[2].strip()) from None

    def _training_batches(self) -> Iterator[PoseBatch]:
        if not self._resumed:
            self.finish_epoch()
        self._resumed = False
        self._batches.start = self._taken
        for batch in super().__iter__():
            self._taken += self._batches.global_batch
            yield batch

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


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # the workers are the parallelism
