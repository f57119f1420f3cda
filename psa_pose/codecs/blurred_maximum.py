"""Where blurred heatmaps are highest, found without blurring all of them."""

import torch
from torch import Tensor
from torch.linalg import vector_norm

from psa_pose.codecs.blur import blur, blur_matrix, may_choose
from psa_pose.codecs.maximum import maximum

ROWS = 12  # that are blurred first; fewer are too often not enough, more take longer


def blurred_maximum(maps: Tensor, kernel: list[float]) -> tuple[Tensor, Tensor]:
    """Each blurred map's first maximum, `maximum(blur(maps, kernel))`.

    Of most maps only a stripe is blurred, where `_row_bounds` are highest; its maximum stands
    where they say that no other row reaches it. Other maps (noise, peaks of one height, nothing at
    all) are blurred throughout, as all are where `may_choose` says no.

    Args:
        maps: (B, K, H, W).
        kernel: odd number of weights, none negative.

    Returns:
        x and y (B, K, 2), int64, and values (B, K).
    """
    height, width = maps.shape[2:]
    if height <= ROWS or not may_choose(maps):
        return maximum(blur(maps, kernel))
    lines = maps.flatten(0, 1)
    down = blur_matrix(kernel, height, maps, reflect=True)
    across = blur_matrix(kernel, width, maps, reflect=True)
    bounds = _row_bounds(lines, down, across, len(kernel) // 4)

    first = (bounds.argmax(-1) - ROWS // 2).clamp(0, height - ROWS)
    stripes = down.unfold(0, ROWS, 1).mT.flatten(1)  # of `down`, at each place
    stripes = stripes.index_select(0, first).unflatten(1, (ROWS, height))
    blurred = torch.bmm(stripes, lines) @ across.mT
    pixel, values = (found[:, 0] for found in maximum(blurred.unsqueeze(1)))
    pixel[:, 1] += first

    row, first = torch.arange(height), first.unsqueeze(-1)
    beyond = torch.where((row < first) | (row >= first + ROWS), bounds, 0).amax(-1)
    unsure = torch.nonzero(~(beyond < values)).flatten()  # also where either is nan
    if len(unsure):
        whole = maximum(blur(lines.index_select(0, unsure).unsqueeze(0), kernel))
        pixel[unsure], values[unsure] = (found[0] for found in whole)
    return pixel.view(*maps.shape[:2], 2), values.view(maps.shape[:2])


def _row_bounds(lines: Tensor, down: Tensor, across: Tensor, edge: int) -> Tensor:
    """(N, H), what no pixel of each row of the blurred maps is above.

    A row m blurred along itself is nowhere above |t / w| |w m| (Cauchy and Schwarz), with t that
    pixel's taps and any weights w. They are 1, and the root of 2 in the last `edge` columns: there
    taps that are mirrored at the border add up, and t would be longer than elsewhere.

    Args:
        lines: maps (N, H, W).
        down, across: the matrices that blur a column (H, H) and a row (W, W).
        edge: columns.
    """
    width = lines.shape[2]
    squared = across.new_ones(width)  # the weights
    squared[:edge] += 1
    squared[width - edge :] += 1
    parts = lines, lines[..., :edge], lines[..., width - edge :]
    norms = sum(vector_norm(part, dim=-1).square() for part in parts).sqrt()
    bounds = norms @ down.mT * vector_norm(across / squared.sqrt(), dim=-1).max()
    # Rounding, in these and in the blur; squares may be too small for the format.
    number = torch.finfo(lines.dtype)
    return bounds * (1 + 1e3 * number.eps) + (width * number.tiny) ** 0.5
