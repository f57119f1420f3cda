"""One process of `scaling.py`: every contestant's turns, round by round, in one job.

Ranks that a contestant does not need wait on a socket, without using a core. So one process, two
and four take turns within a round, and a ratio is one of neighbours in time.
"""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile, record_function

from psa_pose.datasets import PoseDataLoader, TopdownDataset
from psa_pose.engine import build
from psa_pose.engine.config import load_config
from psa_pose.engine.memory import keep_large_blocks
from psa_pose.engine.module import PoseModule
from psa_pose.engine.step import step_options
from psa_pose.engine.train import make_optimizer, scaled_optimizer
from psa_pose.structures import PoseBatch

WARM_UP = 3  # steps: a static graph is found and buckets are made anew in the first two
PROFILED = 3  # steps
DISTURBED = 0.05  # a turn in which other programs had more of a core is taken again


class Loss(nn.Module):
    """The training loss as a module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self, module: PoseModule) -> None:
        super().__init__()
        self.estimator, self._loss = module.estimator, module._loss

    def forward(self, batch: PoseBatch) -> Tensor:
        return self._loss(batch)


class Contestant:
    """The engine's own step on the first `ranks` processes, without Lightning's loop around it.

    One batch a step, not clipped.

    Args:
        ranks: of the job; the others have no part in it.
        wrapped: `model_wrapper_cfg`; None leaves communication out.
        group: of these ranks.
        batches: of one rank.
    """

    def __init__(
        self,
        job: 'Job',
        ranks: int,
        wrapped: dict[str, Any] | None,
        group: dist.ProcessGroup,
        batches: Iterator[PoseBatch],
    ) -> None:
        self.job, self.ranks, self.group, self.batches = job, ranks, group, batches
        torch.manual_seed(0)
        estimator = build.build_model(job.cfg, job.dataset.info).to(job.device)
        self.loss: nn.Module = Loss(PoseModule(estimator, None, job.step))  # type: ignore[arg-type]
        options, _, _ = scaled_optimizer(job.cfg, job.per_rank(ranks) * ranks, job.step)
        self.optimizer = make_optimizer(options, estimator.parameters())
        self.together: Tensor | None = None
        if wrapped is not None:
            options = dict(wrapped)
            compressed = options.pop('grad_compression') is not None
            self.loss = DistributedDataParallel(self.loss, process_group=group, **options)
            if compressed:
                self.loss.register_comm_hook(group, bf16_compress_hook)
            # What NonFiniteGuard shares in every step: a flag and BatchNorm's running statistics.
            shared = sum(b.numel() for b in estimator.buffers() if b.is_floating_point() and b.ndim)
            self.together = torch.zeros(1 + shared, device=job.device)

    def step(self) -> None:
        job = self.job
        with record_function('scaling: data'):
            batch = next(self.batches)
            batch = PoseBatch(*(field.to(job.device, non_blocking=True) for field in batch))
        dtype = getattr(torch, job.step.dtype)
        with torch.autocast(job.device.type, dtype, enabled=dtype != torch.float32):
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        if self.together is not None:
            dist.all_reduce(self.together, group=self.group)
        self.optimizer.step()

    def turn(self, first: int, steps: int) -> dict[str, Any]:
        """A step's seconds, after `first` others; see `scaling.py` for the rest."""
        for _ in range(first):
            self.step()
        dist.barrier(self.group)
        self.job.synchronize()
        before = (time.perf_counter(), time.process_time(), core_seconds(), bytes_sent())
        for _ in range(steps):
            self.step()
        self.job.synchronize()
        after = (time.perf_counter(), time.process_time(), core_seconds(), bytes_sent())
        seconds, processor, core, sent = (b - a for a, b in zip(before, after, strict=True))
        # Nothing is known where workers of the data, or ranks, share a core.
        others = (core - processor) / seconds if self.job.own_core else None
        return {
            'seconds': seconds / steps,
            'processor': processor / steps,
            'sent': sent / steps,
            'others': others,
        }

    def shares(self) -> dict[str, float]:
        """Of a step's time, from the profiler: in which something is communicated, and data."""
        gpu = self.job.device.type == 'cuda'
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
        dist.barrier(self.group)
        with profile(activities=activities) as profiler:
            start = time.perf_counter()
            for _ in range(PROFILED):
                self.step()
            self.job.synchronize()
            micros = (time.perf_counter() - start) * 1e6
        found: dict[str, list[tuple[float, float]]] = {'communication': [], 'data': []}
        for event in profiler.events() or ():
            span = (event.time_range.start, event.time_range.end)
            if event.name == 'scaling: data' and event.device_type == torch.autograd.DeviceType.CPU:
                found['data'].append(span)
            if event.name.startswith('gloo:') or 'ncclDevKernel' in event.name:
                found['communication'].append(span)
        return {name: length(spans) / micros for name, spans in found.items()}


class Job:
    """What all contestants share.

    Args:
        task: see `scaling.py`.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.task, self.rank = task, int(os.environ['RANK'])
        self.device = torch.device(task['device'])
        self.own_core = False
        if self.device.type == 'cuda':
            self.device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
            torch.cuda.set_device(self.device)
        else:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[self.rank % len(cores)]})
            self.own_core = int(os.environ['WORLD_SIZE']) <= len(cores) and not task['workers']
            torch.set_num_threads(1)
            keep_large_blocks()
        self.cfg = load_config(task['config'], task['options'])
        self.step = step_options(self.cfg)
        self.dataset: TopdownDataset = build.build_dataset(self.cfg, 'train_dataloader')

    def per_rank(self, ranks: int) -> int:
        batch = self.task['batch']
        return batch // ranks if self.task['strong'] else batch

    def synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def batches(self, ranks: int) -> Iterator[PoseBatch]:
        """One loader for all contestants of as many ranks."""
        loader = PoseDataLoader(
            self.dataset,
            self.per_rank(ranks),
            train=True,
            num_workers=self.task['workers'],
            rank=self.rank,
            ranks=ranks,
            pin_memory=self.device.type == 'cuda',
        )
        while True:
            yield from loader

    def run(self) -> dict[str, Any]:
        """Every reading of every rank; on all of them the same."""
        backend = 'nccl' if self.device.type == 'cuda' else 'gloo'
        dist.init_process_group(backend, timeout=timedelta(minutes=10))
        every: Any = dist.new_group(backend='gloo')
        counts = sorted({n for n, _ in self.task['contestants']})
        groups: Any = {n: dist.new_group(range(n)) for n in counts}  # made by all, in one order
        batches = {n: self.batches(n) for n in counts if self.rank < n}
        mine = {
            i: Contestant(self, n, wrapped, groups[n], batches[n])
            for i, (n, wrapped) in enumerate(self.task['contestants'])
            if self.rank < n
        }
        ahead = 1 + 2 * self.task['workers']  # batches made while it was another's turn

        def ask(i: int, what: str, *arguments: int) -> list[dict[str, Any]]:
            """Of each rank that has a part in contestant `i`; the others wait here."""
            answer = getattr(mine[i], what)(*arguments) if i in mine else None
            answers: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(answers, answer, every)
            return [a for a in answers if a]

        readings: list[list[Any]] = [[] for _ in self.task['contestants']]
        for i in range(len(readings)):
            ask(i, 'turn', WARM_UP, 1)
        for number in range(self.task['rounds']):
            for i in random.Random(number).sample(range(len(readings)), len(readings)):
                turns: list[Any] = []
                while not turns or (
                    len(turns) < self.task['tries'] and min(map(disturbance, turns)) > DISTURBED
                ):
                    turns.append(ask(i, 'turn', ahead, self.task['steps']))
                readings[i].append(min(turns, key=disturbance))
        for i, column in enumerate(readings):
            column.append(ask(i, 'shares'))
        dist.destroy_process_group()
        # The last contestant is one of all ranks.
        trained = (p.numel() for p in mine[len(readings) - 1].loss.parameters() if p.requires_grad)
        return {'parameters': sum(trained), 'step': str(self.step), 'readings': readings}


def disturbance(turn: list[dict[str, Any]]) -> float:
    """The largest share of a rank's core that other programs had."""
    return max(rank['others'] or 0.0 for rank in turn)


def core_seconds() -> float:
    """What all programs have spent on the cores that this process may use, in 10 ms steps."""
    cores = {f'cpu{core}' for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path('/proc/stat').read_text().splitlines())
    ticks = (sum(map(int, (*f[1:4], f[8]))) for f in lines if f[0] in cores)
    return sum(ticks) / os.sysconf('SC_CLK_TCK')


def bytes_sent() -> int:
    """Of this machine's (or network namespace's) interface `eth0`; 0 where there is none."""
    for line in Path('/proc/net/dev').read_text().splitlines():
        name, _, numbers = line.partition(':')
        if name.strip() == 'eth0':
            return int(numbers.split()[8])
    return 0


def length(spans: list[tuple[float, float]]) -> float:
    """Of the union of intervals."""
    total, end = 0.0, float('-inf')
    for first, last in sorted(spans):
        total += max(last - max(first, end), 0.0)
        end = max(end, last)
    return total


if __name__ == '__main__':
    job = Job(json.loads(Path(sys.argv[1]).read_text()))
    found = job.run()
    if job.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
