"""Files that people download: nothing in them runs, none takes more memory than it has bytes."""

import argparse
import datetime
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.errors import CheckpointError
from psa_pose.models.checkpoints.read import MAX_PICKLE, read_checkpoint
from tests.conftest import ROOT

BOMB = 1 << 28


class Runs:
    """Unpickled by an ordinary pickle, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


class Evaluates(Runs):
    def __reduce__(self) -> tuple[object, ...]:
        return eval, (f'__import__("os").system({self.command!r})',)


class Gets(Runs):
    """By way of `getattr`, which MMPose's files use for names of methods."""

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (OrderedDict, 'fromkeys')


def zipped(path: Path, payload: object) -> None:
    torch.save({'state_dict': {'a': torch.zeros(2)}, 'payload': payload}, path)


def legacy(path: Path, payload: object) -> None:
    content = {'state_dict': {'a': torch.zeros(2)}, 'payload': payload}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps({'payload': payload}))


@pytest.mark.parametrize('write', [zipped, legacy, plain_pickle])
@pytest.mark.parametrize(('kind', 'name'), [(Runs, 'posix.system'), (Evaluates, 'eval')])
def test_code_is_refused_by_name_and_does_not_run(tmp_path: Path, write, kind, name: str) -> None:
    trace, path = tmp_path / 'owned', tmp_path / 'evil.pth'
    write(path, kind(f'touch {trace}'))
    with pytest.raises(CheckpointError, match=r'evil.pth is not a readable checkpoint') as error:
        read_checkpoint(path)
    assert not trace.exists()
    if write is not plain_pickle:
        assert f'it holds a {name}, which is neither' in str(error.value)
    pickle.loads(pickle.dumps(kind(f'touch {trace}')))  # what the file would have done
    assert trace.exists()


def test_getattr_is_taken_for_nothing(tmp_path: Path) -> None:
    zipped(tmp_path / 'f.pth', Gets(''))
    payload = read_checkpoint(tmp_path / 'f.pth')['payload']
    assert type(payload).__name__ == 'getattr' and vars(payload) == {}


def test_the_plain_extras_of_other_frameworks_are_read_over(tmp_path: Path) -> None:
    content = {
        'state_dict': OrderedDict(a=torch.arange(3.0)),
        'meta': {
            'time': datetime.datetime(2026, 1, 2),
            'sigmas': np.ones(17),
            'AP': np.float64(0.7),
            'log': np.float32(0.5),
            'args': argparse.Namespace(lr=0.1),
            'folder': Path('work_dirs'),
            'keypoint_names': ['nose'],
        },
    }
    torch.save(content, tmp_path / 'f.pth')
    read = read_checkpoint(tmp_path / 'f.pth')
    assert torch.equal(read['state_dict']['a'], torch.arange(3.0))
    assert read['meta']['keypoint_names'] == ['nose']
    assert not isinstance(read['meta']['time'], datetime.datetime)


def test_dictionaries_of_other_frameworks_are_read(tmp_path: Path) -> None:
    from mmengine.config import ConfigDict

    torch.save({'meta': ConfigDict(a=dict(b=1)), 'w': torch.ones(1)}, tmp_path / 'f.pth')
    assert read_checkpoint(tmp_path / 'f.pth')['meta']['a']['b'] == 1


@pytest.mark.parametrize(
    'content', [b'', b'not a checkpoint', b'PK\x03\x04 cut off', b'1234567\0{']
)
def test_broken_files_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'broken.pth is (not a readable checkpoint|refused)'):
        read_checkpoint(tmp_path / 'broken.pth')
    with pytest.raises(CheckpointError, match=r'cannot read checkpoint .*none.pth: No such file'):
        read_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(CheckpointError, match=r'cannot read checkpoint .*: Is a directory'):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize('name', ['.', 'last.ckpt'])
def test_a_work_dir_is_not_its_checkpoint_but_near(tmp_path: Path, name: str) -> None:
    (tmp_path / 'checkpoints').mkdir()
    last = tmp_path / 'checkpoints/last.ckpt'
    last.write_bytes(b'')
    with pytest.raises(CheckpointError, match=f'; there is {re.escape(str(last))}$'):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.99])
@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    from safetensors.torch import save_file

    path, state = tmp_path / 'f', {'a': torch.randn(100, 100), 'b': torch.randn(50)}
    if kind == 'safetensors':
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == 'zip')
    assert torch.equal(
        read_checkpoint(path).get('state_dict', read_checkpoint(path))['a'], state['a']
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r'is not a readable|is refused'):
        read_checkpoint(path)


def test_a_tensor_alone_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / 't.pth')
    with pytest.raises(CheckpointError, match='holds a Tensor, not a state dict'):
        read_checkpoint(tmp_path / 't.pth')


# Bombs of 256 MB: read by a process of their own, which says how much memory that took.


READER = """
import json, resource, sys
from pathlib import Path
import torch, safetensors
from psa_pose.errors import CheckpointError
from psa_pose.models.checkpoints.read import read_checkpoint

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

start = peak()
for line in sys.stdin:
    message = 'taken'
    try:
        read_checkpoint(Path(line.strip()))
    except CheckpointError as error:
        message = str(error)
    print(json.dumps([message, peak() - start]), flush=True)
"""


@pytest.fixture(scope='module')
def refused_within_memory() -> Iterator[Callable[[Path], str]]:
    command = [sys.executable, '-c', READER]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]

        def read(path: Path) -> str:
            print(path, file=process.stdin, flush=True)
            message, megabytes = json.loads(process.stdout.readline())
            assert megabytes < 100, f'{megabytes} MB for {path.stat().st_size} bytes: {message}'
            return message

        yield read


def repacked(path: Path, out: Path, record: str, content: bytes, method: int) -> None:
    """The zip of `torch.save` with one record replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, 'w') as new:
        for entry in old.infolist():
            hit = entry.filename.endswith(record)
            new.writestr(
                entry.filename,
                content if hit else old.read(entry),
                compress_type=method if hit else zipfile.ZIP_STORED,
            )


def test_a_zip_bomb_is_refused(tmp_path: Path, refused_within_memory) -> None:
    torch.save({'a': torch.zeros(2)}, tmp_path / 'a.pth')
    zeros = bytes(BOMB)
    repacked(tmp_path / 'a.pth', tmp_path / 'b.pth', 'data/0', zeros, zipfile.ZIP_DEFLATED)
    assert (tmp_path / 'b.pth').stat().st_size < BOMB / 500
    assert 'that would unpack to 268,' in refused_within_memory(tmp_path / 'b.pth')


def test_overlapping_records_are_refused(tmp_path: Path, refused_within_memory) -> None:
    """The bomb without compression: many entries that are the same bytes."""
    path = tmp_path / 'overlap.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data/0', bytes(1 << 20))
        entry = archive.infolist()[0]
        for i in range(1, 100):
            twin = zipfile.ZipInfo(f'a/data/{i}')
            twin.header_offset, twin.file_size = entry.header_offset, entry.file_size
            twin.compress_size, twin.CRC = entry.compress_size, entry.CRC
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    assert 'its entries overlap' in refused_within_memory(path)


def test_a_tensor_that_claims_more_than_its_record_is_refused(
    tmp_path: Path, refused_within_memory
) -> None:
    torch.save({'a': torch.zeros(2)}, tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as archive:
        pickled = archive.read('a/data.pkl')
    claim = pickled.replace(b'K\x02tq', b'J' + struct.pack('<i', (1 << 31) - 1) + b'tq', 1)
    assert claim != pickled
    repacked(tmp_path / 'a.pth', tmp_path / 'b.pth', 'data.pkl', claim, zipfile.ZIP_STORED)
    assert 'is not a readable checkpoint' in refused_within_memory(tmp_path / 'b.pth')


def test_a_legacy_tensor_that_claims_more_than_the_file_is_refused(
    tmp_path: Path, refused_within_memory
) -> None:
    buffer = io.BytesIO()
    torch.save({'a': torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    old = buffer.getvalue()
    new = old.replace(b'K\x02', b'J' + struct.pack('<i', (1 << 31) - 1))
    assert new != old
    (tmp_path / 'legacy.pth').write_bytes(new)
    assert 'is not a readable checkpoint' in refused_within_memory(tmp_path / 'legacy.pth')


class Bytes:
    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (BOMB,)


@pytest.mark.parametrize('write', [zipped, legacy])
def test_bytes_made_from_a_number_are_refused(tmp_path: Path, refused_within_memory, write) -> None:
    write(tmp_path / 'bytes.pth', Bytes())
    assert 'it holds a bytearray' in refused_within_memory(tmp_path / 'bytes.pth')


def test_a_pickle_of_endless_lists_is_refused(tmp_path: Path, refused_within_memory) -> None:
    torch.save({'a': torch.zeros(2)}, tmp_path / 'a.pth')
    lists = b'\x80\x02' + b']' * (MAX_PICKLE + 1)  # each byte an empty list of 56
    repacked(tmp_path / 'a.pth', tmp_path / 'b.pth', 'data.pkl', lists, zipfile.ZIP_STORED)
    assert 'data.pkl has 67,1' in refused_within_memory(tmp_path / 'b.pth')


@pytest.mark.parametrize('claim', ['header', 'offsets', 'shape'])
def test_safetensors_that_claim_absurd_sizes_are_refused(
    tmp_path: Path, refused_within_memory, claim: str
) -> None:
    end = 1 << 50 if claim == 'offsets' else 8
    shape = [1 << 48] if claim != 'header' else [2]
    header = json.dumps({'a': {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, end]}}).encode()
    size = 1 << 62 if claim == 'header' else len(header)
    path = tmp_path / 'bomb.safetensors'
    path.write_bytes(struct.pack('<Q', size) + header + bytes(8))
    message = refused_within_memory(path)
    assert ('its header claims 4,611' if claim == 'header' else 'no') in message
