"""MATLAB files (version 5 to 7.2), looked through before scipy believes what they claim.

Some hundred bytes can claim an array of gigabytes, pack zeros a thousand to one, nest cells until
the reader's stack overflows, or name a type of numbers that scipy 1.17 looks up behind the end of
its table: a segmentation fault. Here every element has to be of a type that belongs in its place
and to lie inside its parent, and all of them together within `MAX_MEMORY`.
"""

import struct
import zlib
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Any

from psa_pose.errors import DataError

MAX_BYTES = 512 << 20  # of a file; MPII's annotations have 13 MB
MAX_MEMORY = 2 << 30  # that the arrays may take
_DEPTH = 32  # of cells and structs in each other; MPII's have 8
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_COMPLEX = 0x800
_NUMBER_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_TYPES = (1, 2, 4, 16, 17, 18)
_NAME, _INT32, _UINT32 = (1,), (5,), (6,)
_OBJECT = 128  # bytes, roughly, of the smallest array in Python


def read_mat(path: Path, **options: Any) -> dict[str, Any]:
    """Read a MATLAB file; options are scipy's.

    Raises:
        DataError: missing, not a MATLAB file, larger than the limits, or not what it claims.
    """
    from scipy.io import loadmat  # slow to load, and only MPII needs it

    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f'{path}: more than {MAX_BYTES >> 20} MiB are not read')
        _check(path.read_bytes())
        return loadmat(path, **options)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from None
    except DataError:
        raise
    except Exception as error:  # bytes of a stranger: their reader may fail in any way
        raise DataError(f'{path} is not a MATLAB 5 file, or damaged: {error}') from None


def _check(data: bytes) -> None:
    order = {b'IM': '<', b'MI': '>'}.get(data[126:128])
    if order is None or struct.unpack_from(f'{order}H', data, 124)[0] != 0x100:
        raise ValueError('no header of version 5 (save with -v7; -v7.3 is another format)')
    budget, at = _Budget(), 128
    while at < len(data):
        kind, size = _unpack(f'{order}II', data, at, len(data))
        end = at + 8 + size
        if end > len(data):
            raise ValueError(f'cut off: an element of {size} bytes, {len(data) - at - 8} are there')
        if kind == _COMPRESSED:
            plain = _inflated(data[at + 8 : end], order, budget)
            _Elements(plain, order, budget).matrix(0, len(plain), 0)
        else:
            _Elements(data, order, budget).matrix(at, end, 0)
        at = end


def _inflated(packed: bytes, order: str, budget: '_Budget') -> bytes:
    """As many bytes as the matrix says that it has, which is what scipy reads, and no more."""
    stream = zlib.decompressobj()
    head = stream.decompress(packed, 8)
    size = 8 + _unpack(f'{order}II', head, 0, len(head))[1]
    budget.take(size)
    plain = head + stream.decompress(stream.unconsumed_tail, size - 8 + 1)
    if len(plain) != size:
        raise ValueError(f'a matrix of {size} bytes is packed as {len(plain)} or more')
    return plain


class _Budget:
    """Bytes that may still be claimed."""

    def __init__(self) -> None:
        self.left = MAX_MEMORY

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f'it claims more than {MAX_MEMORY >> 20} MiB')


class _Elements:
    """Steps over the elements of a buffer."""

    def __init__(self, data: bytes, order: str, budget: _Budget) -> None:
        self.data, self.order, self.budget = data, order, budget

    def tag(self, at: int, end: int, kinds: Collection[int]) -> tuple[int, int, int, int]:
        """Type, where its bytes start, how many they are, and where the next element starts."""
        kind, size = _unpack(f'{self.order}II', self.data, at, end)
        if kind >> 16:  # four bytes or fewer, inside the tag
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f'a short element of {size} bytes')
        else:
            start, after = at + 8, at + 8 + size + -size % 8
        if kind not in kinds:
            raise ValueError(f'an element of type {kind}, expected one of {sorted(kinds)}')
        if start + size > end:
            raise ValueError(f'an element of {size} bytes where {end - start} are left')
        return kind, start, size, min(after, end)

    def matrix(self, at: int, end: int, depth: int) -> int:
        """Check the matrix at `at`, with all that is in it; gives where it ends."""
        _, at, size, after = self.tag(at, end, (_MATRIX,))
        if depth > _DEPTH:
            raise ValueError(f'cells or structs {_DEPTH} deep in each other')
        self.budget.take(_OBJECT)
        if not size:
            return after
        end = at + size
        _, flags_at, flags_size, at = self.tag(at, end, _UINT32)
        (flags,) = _unpack(f'{self.order}I', self.data, flags_at, flags_at + flags_size)
        _, dims_at, dims_size, at = self.tag(at, end, _INT32)
        dims = _unpack(f'{self.order}{dims_size // 4}i', self.data, dims_at, end)
        if min(dims, default=-1) < 0 or len(dims) > 32:
            raise ValueError(f'an array of {str(dims)[:80]}')
        count, at = prod(dims), self.tag(at, end, _NAME)[3]  # behind its name
        kind = flags & 0xFF
        self.budget.take(8 * count * (2 if flags & _COMPLEX else 1))
        if kind in (_CELL, _STRUCT):
            if kind == _STRUCT:
                _, length_at, length_size, at = self.tag(at, end, _INT32)
                (length,) = _unpack(f'{self.order}i', self.data, length_at, length_at + length_size)
                _, _, names, at = self.tag(at, end, _NAME)
                if not 0 < length <= 64:
                    raise ValueError(f'names of fields {length} long')
                count *= names // length
                self.budget.take(8 * count)
            if count > (end - at) // 8:
                raise ValueError(f'{count} elements in {end - at} bytes')
            for _ in range(count):
                at = self.matrix(at, end, depth + 1)
        elif kind == _CHAR:
            if count > self.tag(at, end, _TEXT_TYPES)[2]:
                raise ValueError(f'a text of {dims} characters in fewer bytes')
        elif kind in _NUMBERS:
            for _ in range(2 if flags & _COMPLEX else 1):
                found, _, size, at = self.tag(at, end, _NUMBER_SIZES)
                if count * _NUMBER_SIZES[found] != size:
                    raise ValueError(f'an array of {dims} in {size} bytes')
        else:
            raise ValueError(f'an array of class {kind}: objects and sparse arrays are not read')
        return after


def _unpack(form: str, data: bytes, at: int, end: int) -> tuple[Any, ...]:
    if at + struct.calcsize(form) > end:
        raise ValueError('cut off inside an element')
    return struct.unpack_from(form, data, at)
