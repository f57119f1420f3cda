"""MATLAB files that claim too much, or are not what they claim: refused, in little memory."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from psa_pose.datasets import mat_file
from psa_pose.datasets.mat_file import read_mat
from psa_pose.errors import DataError
from tests.limited import outcome

HEADER = b'MATLAB 5.0 MAT-file'.ljust(124) + b'\x00\x01IM'
DOUBLE, CELL, STRUCT, SPARSE, OPAQUE = 6, 1, 2, 5, 17


def element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return (
        struct.pack('<II', kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)
    )


def matrix(kind: int, dims: tuple[int, ...], body: bytes = b'', size: int | None = None) -> bytes:
    head = element(6, struct.pack('<II', kind, 0))
    head += element(5, struct.pack(f'<{len(dims)}i', *dims)) + element(1, b'x')
    return element(14, head + body, size)


def packed(data: bytes) -> bytes:
    data = zlib.compress(data)
    return struct.pack('<II', 15, len(data)) + data


def zeros(mebibytes: int) -> bytes:
    """A zlib stream of a kilobyte for every mebibyte."""
    stream, block = zlib.compressobj(9), bytes(1 << 20)
    first, again = (stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (mebibytes - 1)


def bomb(claim: int) -> bytes:
    """4 GiB of zeros, whose first element claims some bytes."""
    stream = zlib.compressobj()
    start = stream.compress(matrix(DOUBLE, (claim // 8, 1), size=claim))
    start += stream.flush(zlib.Z_FULL_FLUSH)
    body = start + zeros(4096)[2:]
    return struct.pack('<II', 15, len(body)) + body


def nested(depth: int) -> bytes:
    found = matrix(DOUBLE, (0, 0), element(9, b''))
    for _ in range(depth):
        found = matrix(CELL, (1, 1), found)
    return found


NUMBER = element(9, struct.pack('<d', 7.0))
HOSTILE = {
    'claims 4 GiB packed': (
        packed(matrix(DOUBLE, (1 << 29, 1), size=0xFFFFFF00)),
        'claims more than',
    ),
    'claims 4 GiB plain': (matrix(DOUBLE, (1 << 29, 1), size=0xFFFFFF00), 'cut off'),
    'claims numbers': (matrix(DOUBLE, (30000, 30000), NUMBER), 'claims more|in 8 bytes'),
    'claims cells': (matrix(CELL, (2**31 - 1, 1)), 'claims more than'),
    'claims some cells': (matrix(CELL, (1 << 20, 1)), '1048576 elements in 0 bytes'),
    'product beyond 64 bits': (matrix(CELL, (2**31 - 1,) * 3), 'claims more than'),
    'negative': (matrix(DOUBLE, (-1, 8), NUMBER), 'an array of'),
    'nested': (nested(2000), 'deep in each other'),
    'sparse': (matrix(SPARSE, (9, 9), NUMBER), 'class 5'),
    'object': (matrix(OPAQUE, (1, 1), NUMBER), 'class 17'),
    'fields without a name': (
        matrix(STRUCT, (1, 1), element(5, struct.pack('<i', 0)) + element(1, b'')),
        'names of fields 0 long',
    ),
    'child larger than its parent': (
        matrix(DOUBLE, (1, 1), element(9, b'', 999)),
        '999 bytes where',
    ),
    'more than it claims': (packed(matrix(DOUBLE, (1, 1), NUMBER) + bytes(64)), 'is packed as'),
    'no zlib': (struct.pack('<II', 15, 40) + b'x' * 40, 'Error -3'),
    'no matrix': (element(9, bytes(8)), r'type 9, expected one of \[14\]'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_refused_by_name(name, tmp_path) -> None:
    data, reason = HOSTILE[name]
    (tmp_path / 'some.mat').write_bytes(HEADER + data)
    with pytest.raises(
        DataError, match=rf'some\.mat is not a MATLAB 5 file, or damaged: .*({reason})'
    ):
        read_mat(tmp_path / 'some.mat')


@pytest.mark.skipif(sys.platform != 'linux', reason='measures in /proc')
def test_bombs_take_no_memory(tmp_path) -> None:
    setup = """
    from pathlib import Path
    import scipy.io
    from psa_pose.datasets.mat_file import read_mat
    """
    for claim, reason in ((800, 'is packed as'), (0xFFFFFF00, 'claims more than 2048 MiB')):
        (tmp_path / 'bomb.mat').write_bytes(HEADER + bomb(claim))
        code = f'read_mat(Path({str(tmp_path / "bomb.mat")!r}))'
        assert reason in outcome(setup, code, limit_mb=100)
    code = f'scipy.io.loadmat({str(tmp_path / "bomb.mat")!r})'
    assert 'MemoryError' in outcome(setup, code, limit_mb=100)  # what it would be


def some_arrays() -> dict[str, object]:
    return {
        'numbers': np.random.default_rng(0).normal(size=(3, 4, 2)),
        'small': np.arange(5, dtype=np.uint8),
        'complex': np.array([1 + 2j, 3.0]),
        'empty': np.zeros((0, 3)),
        'text': 'words',
        'cells': np.array([1, 'a', np.eye(2)], object),
        'struct': {'name': 'x', 'inner': {'value': 1.5, 'list': [1, 2, 3]}},
    }


@pytest.mark.parametrize('compressed', [False, True])
def test_what_matlab_writes_is_read(compressed, tmp_path) -> None:
    savemat(tmp_path / 'some.mat', some_arrays(), do_compression=compressed)
    found = read_mat(tmp_path / 'some.mat', squeeze_me=True)
    assert np.array_equal(found['numbers'], some_arrays()['numbers'])
    assert found['text'] == 'words'
    assert found['struct']['inner'].item()['value'].item() == 1.5


@pytest.mark.parametrize('compressed', [False, True])
def test_damage_is_refused_or_read_never_a_crash(compressed, tmp_path) -> None:
    out = io.BytesIO()
    savemat(out, some_arrays(), do_compression=compressed)
    whole, path = out.getvalue(), tmp_path / 'some.mat'
    rng = np.random.default_rng(1)
    damaged = [whole[:cut] for cut in rng.integers(0, len(whole), 100)]
    for at in rng.integers(124, len(whole), 400):
        flipped = bytearray(whole)
        flipped[at] = rng.integers(256)
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_mat(path)
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


def test_too_large_a_file_and_other_versions(tmp_path, monkeypatch) -> None:
    path = tmp_path / 'some.mat'
    with path.open('wb') as file:
        file.truncate(mat_file.MAX_BYTES + 1)
    with pytest.raises(DataError, match=r'some\.mat: more than 512 MiB are not read'):
        read_mat(path)
    path.write_bytes(b'MATLAB 7.3 MAT-file'.ljust(124) + b'\x00\x02IM' + b'\x89HDF')
    with pytest.raises(DataError, match='save with -v7'):
        read_mat(path)
    savemat(path, {'x': 1}, format='4')
    with pytest.raises(DataError, match='no header of version 5'):
        read_mat(path)
