"""How fast a config trains on this machine, and what bounds it, in about a minute."""

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from psa_pose.datasets import PoseDataLoader, TopdownDataset
from psa_pose.engine import build
from psa_pose.engine.environment import cores
from psa_pose.engine.module import PoseModule
from psa_pose.engine.ranks import Ranks
from psa_pose.engine.step import step_options
from psa_pose.engine.train import make_optimizer, scaled_optimizer
from psa_pose.engine.trainer import build_trainer
from psa_pose.files import write_json
from psa_pose.structures import PoseBatch

WARM_UP = 3  # batches: compiling, the first allocations, workers that start


def benchmark(cfg: Config, seconds: float = 60, json_file: Path | None = None) -> dict[str, Any]:
    """Time a config's data pipeline, its training step and both together, on one device.

    Args:
        cfg: see `configs/`; nothing is written to its `work_dir`.
        seconds: about how long it may take, without what starts and compiles.
        json_file: for every number.

    Returns:
        `stages`, microseconds a sample of one process by transform; samples a second of
        `one_process`, the `workers`, the `step` alone and the `training` with both; `waiting`, the
        share of time without a batch; `transfer_ms` of a batch to the device; and what bounds the
        training, `bound`: 'decode', 'data', 'workers', 'transfer' or 'compute'.
    """
    L.seed_everything(build.seed(cfg), verbose=False)
    cfg = Config(cfg._cfg_dict.copy())
    cfg.train_cfg = {**(cfg.get('train_cfg') or {}), 'max_epochs': 1 << 20}  # the clock says when
    dataset = build.build_dataset(cfg, 'train_dataloader')
    module, trainer = _module(cfg, dataset), _trainer(cfg)
    device = trainer.strategy.root_device  # the module leaves it after each fit
    loader = build.build_loader(cfg, 'train_dataloader', dataset, trainer)

    found: dict[str, Any] = {'batch': loader.batch_sampler.batch_size}  # type: ignore[union-attr]
    found |= _data(loader, dataset, seconds / 4)
    one_batch = next(iter(loader))
    found['step'], _ = _training(module, _trainer(cfg), _Again(one_batch), seconds / 4)
    found['transfer_ms'] = _transfer_ms(one_batch, device)
    found['training'], found['waiting'] = _training(module, _trainer(cfg), loader, seconds / 4)
    found['num_workers'], found['cores'] = loader.num_workers, cores()
    found['bound'], advice = _bound(found)
    _show(found, advice, str(module.step))
    if json_file:
        write_json(json_file, found)
    return found


def _module(cfg: Config, dataset: TopdownDataset) -> PoseModule:
    step = step_options(cfg)
    estimator = build.build_model(cfg, dataset.info)
    batch = cfg.train_dataloader.get('batch_size', 32) * step.accumulate
    options, text, _ = scaled_optimizer(cfg, batch, step)
    make = partial(make_optimizer, options)
    return PoseModule(estimator, _NoMetric(), step, make, (), text)  # type: ignore[arg-type]


class _NoMetric:
    """Nothing is evaluated."""


def _trainer(cfg: Config) -> L.Trainer:
    options = {'logger': False, 'enable_checkpointing': False, 'limit_val_batches': 0}
    return build_trainer(cfg, step_options(cfg), Ranks(), plain=True, **options)


def _data(loader: PoseDataLoader, dataset: TopdownDataset, seconds: float) -> dict[str, Any]:
    """What one process does for a sample, and how many samples the workers give."""
    alone = PoseDataLoader(dataset, loader.batch_sampler.batch_size, train=True)  # type: ignore[union-attr]
    spent: dict[str, float] = {}
    steps, dataset.pipeline = dataset.pipeline, [_timed(s, spent) for s in dataset.pipeline]
    one_process, total = _rate(alone, seconds, spent.clear)
    dataset.pipeline = steps
    stages = {name: value * 1e6 / total for name, value in spent.items()}
    stages['rest'] = 1e6 / one_process - sum(stages.values())
    workers = _rate(loader, seconds)[0] if loader.num_workers else one_process
    loader.finish_epoch()
    return {'stages': stages, 'one_process': one_process, 'workers': workers}


def _timed(step: Callable[[Any], Any], spent: dict[str, float]) -> Callable[[Any], Any]:
    def run(results: Any) -> Any:
        start = time.perf_counter()
        try:
            return step(results)
        finally:
            name = type(step).__name__
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

    return run


def _rate(
    loader: PoseDataLoader, seconds: float, started: Callable[[], object] = lambda: None
) -> tuple[float, int]:
    """Samples a second, and how many there were."""
    samples, start = 0, 0.0
    ahead = WARM_UP + (loader.prefetch_factor or 0) * loader.num_workers
    for number, batch in enumerate(_forever(loader)):
        if number == ahead:  # those before were made while the workers started
            started()
            start, samples = time.perf_counter(), 0
        samples += len(batch.person)
        if number > ahead and time.perf_counter() - start > seconds:
            break
    return samples / (time.perf_counter() - start), samples


def _forever(loader: PoseDataLoader) -> Iterator[PoseBatch]:
    while True:
        yield from loader


class _Again:
    """A loader that costs nothing."""

    def __init__(self, batch: PoseBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1 << 30

    def __iter__(self) -> Iterator[PoseBatch]:
        while True:
            yield self.batch


def _training(
    module: PoseModule, trainer: L.Trainer, loader: Any, seconds: float
) -> tuple[float, float]:
    """Samples a second, and the share of time in which the device had to wait for a batch."""
    clock = _Clock(seconds)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.fit(module, loader)
    return clock.samples / clock.elapsed, clock.waiting / clock.elapsed


class _Clock(L.Callback):
    """Stops the training after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.samples, self.seen = 0, 0
        self.waiting = self.elapsed = 0.0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(module, PoseModule)
        self.seen += 1
        if self.seen == WARM_UP:
            self.started = self._now(module)
            module.data_wait.take()  # of what came before
        elif self.seen > WARM_UP:
            self.samples += len(batch.person)
            trainer.should_stop = time.perf_counter() - self.started > self.seconds

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PoseModule)
        self.elapsed = self._now(module) - self.started
        self.waiting = module.data_wait.take()

    @staticmethod
    def _now(module: L.LightningModule) -> float:
        if module.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def _transfer_ms(batch: PoseBatch, device: torch.device) -> float | None:
    """Of a batch to the device; None where it is there already."""
    if device.type != 'cuda':
        return None
    batch = PoseBatch(*(field.pin_memory() for field in batch))
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for field in batch:
            field.to(device, non_blocking=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e3


def _bound(found: dict[str, Any]) -> tuple[str, str]:
    """What bounds the training, and what to do about it."""
    step_ms = found['batch'] / found['step'] * 1e3
    if found['workers'] < found['step']:
        workers, cores = found['num_workers'], found['cores']
        have = f'{found["workers"]:.0f} samples/s of data for {found["step"]:.0f} of the network'
        if workers < cores - 1:
            wanted = math.ceil(found['step'] / (found['workers'] / max(workers, 1)))
            return 'workers', (
                f'too few workers: {have}; about {wanted} would do '
                f'(train_dataloader.num_workers, now {workers}; {cores} cores)'
            )
        stage = max(found['stages'], key=found['stages'].get)
        share = found['stages'][stage] / sum(found['stages'].values())
        kind = 'decode' if stage == 'LoadImage' else 'data'
        return kind, f'data: {have}, {stage} is {share:.0%} of it; it takes more cores'
    if (found['transfer_ms'] or 0) > step_ms / 4:
        return 'transfer', (
            f'copying to the device: {found["transfer_ms"]:.1f} ms a batch beside a step of '
            f'{step_ms:.1f} ms'
        )
    return 'compute', (
        f'the network: a step takes {step_ms:.0f} ms, and data comes '
        f'{found["workers"] / found["step"]:.1f} times as fast'
    )


def _show(found: dict[str, Any], advice: str, step: str) -> None:
    table = Table(caption=f'batch {found["batch"]}, {step.partition(";")[0]}')
    table.add_column('', min_width=40)
    table.add_column('samples/s', justify='right')
    table.add_row('data, one process', f'{found["one_process"]:.0f}')
    if found['num_workers']:
        table.add_row(f'data, {found["num_workers"]} workers', f'{found["workers"]:.0f}')
    table.add_row('training step alone', f'{found["step"]:.0f}')
    table.add_row('training with data', f'{found["training"]:.0f}', style='bold')
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
    stages = ', '.join(f'{name} {value:.0f}' for name, value in found['stages'].items())
    console.print(f'microseconds a sample of one process: {stages}', highlight=False)
    console.print(f'waiting for data: {found["waiting"]:.0%} of the time', highlight=False)
    console.print(f'bounded by {advice}', highlight=False)
