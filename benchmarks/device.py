"""What a figure was measured on, and what timing on a GPU needs."""

import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from psa_pose.engine.environment import commit

Step = Callable[[], Any]
TF32 = "float32 on a GPU: its convolutions are in TF32, PyTorch's default there"


def where(device: str, **more: Any) -> dict[str, Any]:
    """The machine and the programs; `more` is what belongs to all rows, or was measured of it."""
    cuda = device == 'cuda'
    threads = torch.get_num_threads()
    found = {
        'device': torch.cuda.get_device_name() if cuda else f'{threads} CPU threads',
        'torch': torch.__version__,
        'triton': __import__('triton').__version__ if find_spec('triton') else None,
        # Where a copy without its history runs, what made the copy says which one it is.
        'commit': os.environ.get('COMMIT') or commit(),
    }
    if cuda:
        found |= {'cudnn': torch.backends.cudnn.version(), 'driver': _driver()}
    return found | more


def write(path: Path | None, where: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Called after every part of the rows: what is stopped in the middle leaves the others."""
    if path:
        path.write_text(json.dumps({'where': where, 'rows': rows}, indent=1) + '\n')


def synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def captured(step: Step, pool: Any = None) -> Step:
    """The step's kernels as one CUDA graph.

    Args:
        step: what does not wait for the GPU.
        pool: memory that graphs share which live together, one replayed at a time: a step that
            makes everything anew needs nothing that another left there.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles kernels, and lets libraries choose theirs
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        step()
    return partial(_replay, graph, step)


def _replay(graph: torch.cuda.CUDAGraph, step: Step) -> None:
    """`step` is kept alive, whose tensors the kernels read."""
    graph.replay()


@lru_cache
def bandwidth() -> float:
    """Bytes read and written in a second by a copy far larger than the GPU's caches."""
    source = torch.randn(2**28, device='cuda')
    target = torch.empty_like(source)
    seconds = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return 2 * source.nbytes / statistics.median(seconds)


def _driver() -> str | None:
    if not (tool := shutil.which('nvidia-smi')):
        return None
    command = [tool, '--query-gpu=driver_version', '--format=csv,noheader']
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
