"""Opening a file of weights: nothing in it is run, and it cannot claim more than it holds."""

import mmap
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psa_pose.errors import CheckpointError
from psa_pose.models.checkpoints.stand_ins import stand_ins

MAX_PICKLE = 64 << 20
"""Bytes of a file's pickle, which unpacks to some tens of times as much; real ones have 1 MB."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save` or safetensors, in host memory.

    Of safetensors `{'state_dict': tensors, 'meta': metadata}`.

    Raises:
        CheckpointError: no such file, damaged, too large for what it is, or it holds more than
            tensors and plain values.
    """
    try:
        with path.open('rb') as file:
            start = file.read(9)
        if start[:2] == b'PK':
            _check_zip(path)
            checkpoint = _read_torch(path)
        elif start[8:9] == b'{':  # after eight bytes, the length of the header that begins here
            checkpoint = _read_safetensors(path)
        else:
            checkpoint = _read_torch(path)
    except CheckpointError:
        raise
    except OSError as error:
        last = (path if path.is_dir() else path.parent) / 'checkpoints/last.ckpt'
        hint = f'; there is {last}' if last.is_file() else ''  # a work dir, or in one
        raise CheckpointError(f'cannot read checkpoint {path}: {error.strerror}{hint}') from None
    except pickle.UnpicklingError as error:
        if foreign := _refused_class(error):
            raise CheckpointError(
                f'{path} is not a readable checkpoint: it holds a {foreign}, which is neither a '
                'tensor nor a plain value, and files are never run; if you trust where it comes '
                'from, keep its weights alone with torch.save(torch.load(FILE, weights_only=False)'
                "['state_dict'], NEW)"
            ) from None
        raise CheckpointError(f'{path} is not a readable checkpoint: {_line(error)}') from error
    except Exception as error:  # a broken file makes its readers raise anything
        raise CheckpointError(f'{path} is not a readable checkpoint: {_line(error)}') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{path} holds a {type(checkpoint).__name__}, not a state dict')
    return checkpoint


def _read_torch(path: Path) -> Any:
    with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # The one allowed type that turns a number into that much memory; no weights need it.
        if content.find(b'\nbytearray\n') >= 0:
            raise CheckpointError(f'{path} is refused: it holds a bytearray, no part of weights')
    with stand_ins():
        return torch.load(path, map_location='cpu', weights_only=True)


def _check_zip(path: Path) -> None:
    """`torch.save` does not compress: entries that unpack to more than the file are a bomb."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    claimed = sum(entry.file_size for entry in entries)
    compressed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if compressed or claimed > size:
        what = f'{compressed[0]} is compressed' if compressed else 'its entries overlap'
        raise CheckpointError(
            f'{path} is refused: {size:,} bytes that would unpack to {claimed:,} ({what}; '
            'torch.save writes neither)'
        )
    for entry in entries:
        if entry.filename.endswith('.pkl') and entry.file_size > MAX_PICKLE:
            raise CheckpointError(
                f'{path} is refused: {entry.filename} has {entry.file_size:,} bytes, and beside '
                f'the tensors a checkpoint has at most {MAX_PICKLE:,}'
            )


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    with path.open('rb') as file:
        header = int.from_bytes(file.read(8), 'little')
    if header > size - 8:
        raise CheckpointError(
            f'{path} is refused: its header claims {header:,} bytes, the file has {size:,}'
        )
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework='pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: Mapping[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f'{path} is not a readable safetensors file: {error}') from None
    return {'state_dict': tensors, 'meta': dict(metadata)}


def _refused_class(error: Exception) -> str | None:
    found = re.search(r'(?:GLOBAL|class) ([\w.]+)', str(error))
    return found.group(1) if found else None


def _line(error: Exception) -> str:
    """Of the message, without the advice and the colours that torch adds."""
    refused = re.search(r'Unsupported (?:class|operand)[^\n]*', str(error))
    text = refused.group() if refused else (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r'\x1b\[[0-9;]*m', '', text).strip()
