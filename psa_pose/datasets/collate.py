"""From samples to a batch; between processes it travels as one piece of shared memory."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from psa_pose.structures import PoseBatch

_ALIGN = 64  # bytes; of every field


class PackedBatch(NamedTuple):
    """A `PoseBatch` in one tensor: to hand over a tensor costs as much as to cut a crop."""

    data: Tensor
    """(bytes,) uint8, in shared memory."""
    layout: tuple[tuple[str, tuple[int, ...], int], ...]
    """Of each field NumPy's name of its dtype, its shape, and the byte where it starts."""


def collate(samples: list[Any]) -> Any:
    """A batch of samples, packed where it was made for another process; see `unpack`."""
    if not isinstance(samples[0], PoseBatch):
        return default_collate(samples)
    layout, size = [], 0
    for field in map(np.asarray, samples[0]):
        layout.append((field.dtype.str, (len(samples), *field.shape), size))
        size += packed_size(field.nbytes * len(samples))
    data = _memory(size)
    packed = PackedBatch(data, tuple(layout))
    batch = unpack(packed)
    for field, values in zip(batch, zip(*samples, strict=True), strict=True):
        np.stack(values, out=field.numpy())
    return batch if get_worker_info() is None else packed


def unpack(batch: Any) -> Any:
    """The `PoseBatch` in a `PackedBatch`, without a copy; anything else as it is."""
    if not isinstance(batch, PackedBatch):
        return batch
    fields = []
    for dtype, shape, start in batch.layout:
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        size = kind.itemsize * int(np.prod(shape))
        fields.append(batch.data[start : start + size].view(kind).view(shape))
    return PoseBatch(*fields)


def packed_size(size: int) -> int:
    """Bytes that a field of `size` bytes takes."""
    return -(-size // _ALIGN) * _ALIGN


def _memory(size: int) -> Tensor:
    """(size,) uint8; in a worker shared from the beginning, not when it is handed over.

    What is moved there only on its way to the main process is lost, and waited for in vain, where
    there is no room.
    """
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
