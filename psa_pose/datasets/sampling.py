"""Which persons make a batch: an order that depends on the seed and the epoch, not on processes.

Decoding an image costs more than everything else a sample needs, and most images show several
persons. So the persons of an image come at the same place of batches that are `spacing` apart:
such batches are one worker's, which keeps the decoded image until its last person was cut out,
while no batch has two of them. Where an epoch is too short for that (fewer batches than `spacing`
for each person of an image) only as many stay together as fit, and it ends as a plain shuffle.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class SampleKey(NamedTuple):
    """What the loader asks a dataset for."""

    person: int
    """Index in the dataset."""
    epoch: int | None = None
    """Of the augmentation, None in evaluation."""
    again: bool = False
    """Whether the same worker will soon be asked for another person of this image."""


class Layout(NamedTuple):
    """How an epoch's persons are laid out in batches; kept in checkpoints."""

    spacing: int
    batch: int
    """Samples that all ranks take in one step."""


def spacing(num_workers: int) -> int:
    """Batches between two persons of an image: the workers' turns come round in it.

    From 8 on, so that the usual numbers of workers (0, 1, 2, 4, 8) give one and the same order.
    """
    turns = max(num_workers, 1)
    return -(-8 // turns) * turns


class EpochBatches:
    """Batches of one rank in training, from a sample offset to the epoch's end.

    Every epoch has an order of its own, drawn from (seed, epoch); a global batch is cut into
    equal parts, one a rank, so the global batches do not depend on the number of ranks.

    Args:
        images: (P,) which image each person is in; any numbers.
        batch_size: of one rank.
        rank: of this process.
        ranks: how many processes share an epoch.
        seed: of the order.
        spacing: see `spacing()`.

    Attributes:
        epoch: the one that `iter()` gives.
        start: how many of its samples are passed over.
        layout: of the epoch; another than this loader's own where a run was resumed with another
            number of ranks or workers, until `finish_epoch`.
    """

    def __init__(
        self, images: np.ndarray, batch_size: int, rank: int, ranks: int, seed: int, spacing: int
    ) -> None:
        self._image = np.unique(images, return_inverse=True)[1]
        self.size, self.batch_size, self.rank = len(images), batch_size, rank
        self.global_batch = batch_size * ranks
        self.seed = seed
        self.own_layout = self.layout = Layout(spacing, self.global_batch)
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.size // self.global_batch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, again = self.order()
        for first in range(self.start, self.size - self.global_batch + 1, self.global_batch):
            mine = np.arange(self.batch_size) + first + self.rank * self.batch_size
            pairs = zip(order[mine].tolist(), again[mine].tolist(), strict=True)
            yield [SampleKey(person, self.epoch, more) for person, more in pairs]

    def order(self) -> tuple[np.ndarray, np.ndarray]:
        """(P,) all persons in this epoch's order, and whether their image is needed again."""
        count = self.size // self.layout.batch
        lanes = max(min(self.layout.spacing, count), 1)
        rng = np.random.default_rng((self.seed, self.epoch))
        person = rng.permutation(self.size)
        group = _groups(self._image[person], max(count // lanes, 1))
        turn = rng.permutation(group.max(initial=-1) + 1)
        person = person[np.argsort(turn[group], kind='stable')]  # image by image

        batches = person[: count * self.layout.batch].reshape(count, self.layout.batch).copy()
        taken = 0
        for lane in range(lanes):  # a lane's batches come from as many persons in a row
            part = batches[lane::lanes]
            part[:] = person[taken : taken + part.size].reshape(part.shape[::-1]).T
            taken += part.size
        again = np.zeros(self.size, bool)
        if self.layout == self.own_layout:
            image = self._image[batches]
            again[: batches.size].reshape(batches.shape)[:-lanes] = image[:-lanes] == image[lanes:]
        return np.concatenate([batches.ravel(), person[taken:]]), again


def _groups(image: np.ndarray, most: int) -> np.ndarray:
    """(P,) int, from 0: persons of one image, at most `most` of them, have one number."""
    order = np.argsort(image, kind='stable')
    ordered = image[order]
    nth = np.empty_like(order)  # of its image's persons
    nth[order] = np.arange(len(image)) - np.searchsorted(ordered, ordered)
    return np.unique(image * len(image) + nth // most, return_inverse=True)[1]


class RankBatches:
    """A rank's share of an evaluation: each person once, none twice, image by image.

    Whole batches are shared out, which are the same for any number of ranks: what a network makes
    of a person depends, in the last bits, on the size of the batch.

    Args:
        images: (P,) which image each person is in; any numbers.
        batch_size: of one rank; smaller where a rank would otherwise be left without a batch.
        rank: of this process.
        ranks: how many processes share the evaluation.
    """

    def __init__(self, images: np.ndarray, batch_size: int, rank: int, ranks: int) -> None:
        self.order = np.argsort(images, kind='stable')
        self.images = images
        self.batch_size = max(min(batch_size, len(images) // ranks), 1)
        self.mine = np.array_split(np.arange(0, len(images), self.batch_size), ranks)[rank]

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for first in self.mine:
            persons = self.order[first : first + self.batch_size]
            image = self.images[persons]
            again = [*(image[:-1] == image[1:]).tolist(), False]  # the next batch is another's
            yield [SampleKey(p, None, a) for p, a in zip(persons.tolist(), again, strict=True)]
