"""Whether a file computes what the original does."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from psa_pose.errors import ExportError
from psa_pose.export.graph import PoseGraph
from psa_pose.export.layers import (
    TOLERANCE,
    Exported,
    first_difference,
    layer_errors,
    relative_error,
)

BATCHES = (1, 3, 8)
PIXELS = 1e-3
"""Of keypoints, in pixels of the crop."""
ROUNDING = 1e-6
"""Of heatmaps, relative to the greatest value; some ten times float32's."""


class Agreement(NamedTuple):
    """The greatest differences found.

    Attributes:
        heatmaps: relative to the greatest value; 0 where the head's output cannot be seen.
        scores: likewise.
        pixels: of keypoints, in pixels of the crop.
        keypoints: how many were compared.
        unsure: how many were not: rounding alone moves them by more than half of `PIXELS`.
    """

    heatmaps: float
    scores: float = 0.0
    pixels: float = 0.0
    keypoints: int = 0
    unsure: int = 0

    def __str__(self) -> str:
        text = f'heatmaps {self.heatmaps:.1e}'
        if self.keypoints or self.unsure:
            text += f', scores {self.scores:.1e}, {self.keypoints} keypoints {self.pixels:.1e} px'
        return text + (f' ({self.unsure} more move with rounding)' if self.unsure else '')

    @property
    def good(self) -> bool:
        """Whether nothing differs by more than is allowed; nan does."""
        values = self.heatmaps <= TOLERANCE and self.scores <= TOLERANCE
        return values and self.pixels <= PIXELS


def check(
    graph: PoseGraph, exported: Exported, crops: Tensor, batches: Sequence[int] = BATCHES
) -> Agreement:
    """Compare a file with the original on batches of several sizes.

    Args:
        graph: the original.
        exported: the file, read back.
        crops: (B, H, W, 3) uint8, at least as many as the largest batch.
        batches: their sizes.

    Raises:
        ExportError: they differ; names the first layer that does.
    """
    found = []
    for size in batches:
        images = graph.inputs(crops[:size])
        agreement = compare(graph, exported, images)
        if not agreement.good:
            first = first_difference(graph, exported, images[:1])  # all values of one image fit
            first = first or first_difference(graph, exported, images)
            raise ExportError(
                f'what was exported is not the original: in a batch of {size} they differ by '
                f'{agreement}; {TOLERANCE:.0e} is allowed, and {PIXELS:.0e} px. First layer that '
                f'differs: {first or _NO_LAYER}{_own_rounding(graph, images)}'
            )
        found.append(agreement)
    columns = list(zip(*found, strict=True))
    return Agreement(*map(max, columns[:3]), *map(sum, columns[3:]))


_NO_LAYER = (
    'none of those that can be compared one by one; so it lies between them, in the decoding, or '
    'in what the runtime makes of the whole graph'
)


def _own_rounding(graph: PoseGraph, images: Tensor) -> str:
    """What to know of weights that amplify rounding until no two programs agree."""
    precise = copy.deepcopy(graph).double()
    precise.data_preprocessor = nn.Identity()
    with torch.no_grad():
        expected = precise.heatmaps(graph.data_preprocessor(images).double())
        error = relative_error(graph.heatmaps(images), expected)
    if error <= TOLERANCE:
        return ''
    return (
        f'. But the original in float32 differs from itself in float64 by {error:.1e}: these '
        'weights amplify rounding beyond what can be compared (are they trained?)'
    )


def compare(graph: PoseGraph, exported: Exported, images: Tensor) -> Agreement:
    """One batch, as the graph takes it."""
    with torch.no_grad():
        heatmaps = graph.heatmaps(images)
        got = exported.run(images)
        if graph.decode is None:
            return Agreement(relative_error(got[0], heatmaps))
        inside = [found.error for found in layer_errors(graph, exported, images, only={'head'})]
        keypoints, scores = graph.decode(heatmaps)
        sure = ~_moved_by_rounding(graph, heatmaps, keypoints)
    moved = (got[0] - keypoints).abs().amax(-1)[sure]
    return Agreement(
        heatmaps=max(inside, default=0.0),
        scores=relative_error(got[1], scores),
        pixels=moved.amax().item() if len(moved) else 0.0,
        keypoints=len(moved),
        unsure=int((~sure).sum()),
    )


def _moved_by_rounding(graph: PoseGraph, heatmaps: Tensor, keypoints: Tensor) -> Tensor:
    """(B, K) bool: two pixels as high as each other, or a peak so flat that noise decides."""
    assert graph.decode is not None
    generator = torch.Generator().manual_seed(0)
    scale = ROUNDING * heatmaps.abs().amax()
    moved = torch.zeros(keypoints.shape[:2], dtype=torch.bool)
    for _ in range(8):
        noise = torch.randn(heatmaps.shape, generator=generator) * scale
        moved |= (graph.decode(heatmaps + noise)[0] - keypoints).abs().amax(-1) > PIXELS / 2
    return moved
