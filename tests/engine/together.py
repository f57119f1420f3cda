"""Functions that run on several ranks at once, forked from a clean process, with a gloo group."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from tests.processes import CONTEXT


def on_ranks(ranks: int, folder: Path, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(rank, *args)` returned on each rank; tensors, or dicts and lists of them."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / 'store'
    store.unlink(missing_ok=True)
    processes: list[Any] = [
        CONTEXT.Process(target=_call, args=(rank, ranks, folder, function, args))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, 'a rank hangs'
    assert all(process.exitcode == 0 for process in processes), 'a rank failed, see its traceback'
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(ranks)]


def _call(rank: int, ranks: int, folder: Path, function: Callable[..., Any], args: Any) -> None:
    multiprocessing.set_start_method(None, force=True)
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=ranks)
    try:
        torch.save(function(rank, *args), folder / f'{rank}.pt')
    finally:
        distributed.destroy_process_group()
