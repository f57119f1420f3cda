"""How long a batch takes in the original and in the file."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from psa_pose.export.graph import PoseGraph
from psa_pose.export.layers import Exported

BATCHES = (1, 8)


def latencies(
    graph: PoseGraph, exported: Exported, crops: Tensor, rounds: int
) -> list[tuple[int, float, float, float]]:
    """Medians of rounds in which both take turns: drifts of the machine meet both.

    Args:
        graph: the original.
        exported: the file, read back, with as many threads as PyTorch.
        crops: (B, H, W, 3) uint8, at least as many as the largest batch.
        rounds: how many; 0 for none.

    Returns:
        For each of `BATCHES`: its size, milliseconds of the original and of the file, and the
        median of the rounds' ratios.
    """
    rows = []
    for size in BATCHES if rounds > 0 else ():
        images = graph.inputs(crops[:size])
        pairs = []
        for number in range(rounds + 1):
            with torch.no_grad():
                pair = _milliseconds(graph, images), _milliseconds(exported.run, images)
            if number:  # the first warms up
                pairs.append(pair)
        original, exports = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append((size, original, exports, statistics.median(a / b for a, b in pairs)))
    return rows


def _milliseconds(run: Callable[[Tensor], object], images: Tensor) -> float:
    start = time.perf_counter()
    run(images)
    return 1e3 * (time.perf_counter() - start)
