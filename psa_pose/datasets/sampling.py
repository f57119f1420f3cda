"""Which persons make a batch: an order that depends on the seed and the epoch alone."""

from collections.abc import Iterator

import numpy as np


class EpochBatches:
    """Batches of (epoch, person) of one rank, from a sample offset to the epoch's end.

    Every epoch is a permutation of its own, drawn from (seed, epoch); a global batch is cut into
    equal parts, one a rank, so the global batches do not depend on the number of ranks.
    """

    def __init__(self, size: int, batch_size: int, rank: int, ranks: int, seed: int) -> None:
        self.size, self.batch_size, self.rank, self.ranks = size, batch_size, rank, ranks
        self.seed = seed
        self.epoch = 0
        self.start = 0

    @property
    def global_batch(self) -> int:
        """Samples that all ranks take in one step."""
        return self.batch_size * self.ranks

    def __len__(self) -> int:
        return self.size // self.global_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        for first in range(self.start, self.size - self.global_batch + 1, self.global_batch):
            mine = first + self.rank * self.batch_size
            yield [(self.epoch, int(i)) for i in order[mine : mine + self.batch_size]]


class RankBatches:
    """Every rank's share of an evaluation: each person once, none twice, in order."""

    def __init__(self, size: int, batch_size: int, rank: int, ranks: int) -> None:
        self.mine = range(rank, size, ranks)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self.mine), self.batch_size):
            yield list(self.mine[first : first + self.batch_size])
