"""Lightning's Trainer from a config: its callbacks, its logger, and how checkpoints are written."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from mmengine.config import Config

from psa_pose.engine.build import known_keys, whole_number
from psa_pose.engine.callbacks import ProgressBar, SkipReport
from psa_pose.engine.step import StepOptions, check_moved
from psa_pose.errors import ConfigError, WorkerError, nearest
from psa_pose.evaluation import PoseMetric
from psa_pose.registry import check_arguments, config_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is there whole or not at all.

    Lightning's own goes through the system's temporary folder: from another file system it is
    copied over the old file, and whoever is killed then has neither.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'{path.name}.partial')
        with partial.open('wb') as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` every `interval` epochs, and whenever training ends.

    Args:
        path: of the file.
        interval: in epochs.
    """

    def __init__(self, path: Path, interval: int) -> None:
        self.path = path
        self.interval = interval
        self.saved_step = -1

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.interval == 0 or epoch == trainer.max_epochs:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step != self.saved_step:  # max_steps came within an epoch
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.saved_step = trainer.global_step
            trainer.save_checkpoint(self.path)


class EvaluateLastEpoch(Callback):
    """The last epoch is evaluated even if it is no multiple of `val_interval`, as in MMEngine."""

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


def training_trainer(
    cfg: Config,
    metric: PoseMetric,
    step: StepOptions,
    *,
    plain: bool,
    dry_run: bool,
    resumed_step: int | None,
) -> L.Trainer:
    """A Trainer that trains, evaluates, logs to TensorBoard and keeps checkpoints.

    Args:
        cfg: the whole config.
        metric: says which numbers there are to choose the best checkpoint by.
        step: how a step is computed.
        plain: lines instead of a progress bar.
        dry_run: one batch of each kind, nothing written.
        resumed_step: of the checkpoint that the run goes on from; later entries are purged.
    """
    options = hook_options(cfg, 'checkpoint', {'interval': 1, 'save_best': 'AP', 'rule': 'max'})
    interval = whole_number(options['interval'], 'default_hooks.checkpoint.interval')
    folder = Path(cfg.work_dir) / 'checkpoints'
    callbacks: list[Callback] = [EvaluateLastEpoch(), SkipReport()]
    if options['save_best']:
        callbacks.append(_best_checkpoint(folder, options, metric))
    callbacks.append(LastCheckpoint(folder / 'last.ckpt', interval))
    logger = TensorBoardLogger(
        cfg.work_dir, name='', version='tensorboard', purge_step=resumed_step
    )
    trainer = build_trainer(
        cfg,
        step,
        plain=plain,
        callbacks=callbacks,
        fast_dev_run=dry_run,
        logger=logger,
        log_every_n_steps=log_interval(cfg),
        plugins=[AtomicCheckpointIO()],
    )
    _ask_for_sigterm_every(log_interval(cfg), trainer)
    return trainer


def log_interval(cfg: Config) -> int:
    """Steps between two readings of the loss."""
    interval = hook_options(cfg, 'logger', {'interval': 50})['interval']
    return whole_number(interval, 'default_hooks.logger.interval')


def build_trainer(cfg: Config, step: StepOptions, *, plain: bool, **options: Any) -> L.Trainer:
    """Lightning's Trainer; the config's `trainer` goes to it word for word."""
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    # None of these says anything that its reader could act on.
    for noise in (
        '.*does not have many workers.*',
        '.*but have no .val_dataloader.*',
        '.*isinstance.treespec, LeafSpec.*',
        '.*Grad strides do not match bucket view strides.*',
    ):
        warnings.filterwarnings('ignore', message=noise)
    train_cfg = known_keys(cfg.get('train_cfg'), ('max_epochs', 'val_interval'), 'train_cfg')
    if not plain:
        options['callbacks'] = [*options.get('callbacks', []), ProgressBar(refresh_rate=5)]
    arguments = {
        'max_epochs': whole_number(train_cfg.get('max_epochs', 210), 'train_cfg.max_epochs'),
        'check_val_every_n_epoch': whole_number(
            train_cfg.get('val_interval', 1), 'train_cfg.val_interval'
        ),
        'default_root_dir': Path(cfg.work_dir),
        'enable_progress_bar': not plain,
        'enable_model_summary': False,
        'num_sanity_val_steps': 1,
        'use_distributed_sampler': False,
        **step.trainer_arguments(),
        **options,
    }
    with config_path('trainer') as path:
        arguments |= known_keys(cfg.get('trainer'), None, path)
        check_arguments(L.Trainer, arguments, path)
        check_moved(cfg.get('trainer') or {})
        try:
            trainer = L.Trainer(**arguments)
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ConfigError(f'{path}: {error}') from error
    _check_ranks(trainer)
    return trainer


def _ask_for_sigterm_every(interval: int, trainer: L.Trainer) -> None:
    """With several ranks Lightning waits at every batch for the device to tell whether rank 0 was
    stopped: its steps would not be queued ahead. Once an interval is soon enough.
    """
    loop = trainer.fit_loop.epoch_loop
    ask = getattr(loop, '_broadcast_sigterm_tensor', None)  # not there before Lightning 2.6
    if ask is None:
        return

    def ask_now_and_then() -> None:
        if (loop.batch_idx + 1) % interval == 0:
            ask()

    loop._broadcast_sigterm_tensor = ask_now_and_then  # type: ignore[method-assign]


def hook_options(cfg: Config, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """An entry of `default_hooks` over its defaults."""
    hooks = known_keys(cfg.get('default_hooks'), ('checkpoint', 'logger'), 'default_hooks')
    options = known_keys(hooks.get(name), tuple(defaults), f'default_hooks.{name}')
    return {**defaults, **options}


def _best_checkpoint(folder: Path, options: dict[str, Any], metric: PoseMetric) -> ModelCheckpoint:
    name, rule = options['save_best'], options['rule']
    if name not in metric.names:
        raise ConfigError(
            f"default_hooks.checkpoint.save_best: no evaluator gives '{name}'; "
            f'{nearest(name, metric.names)}'
        )
    if rule not in ('max', 'min'):
        raise ConfigError(f"default_hooks.checkpoint.rule must be 'max' or 'min', got '{rule}'")
    file_name = name.replace('/', '_')  # of a metric with a prefix
    return ModelCheckpoint(
        folder,
        filename=f'best_epoch={{epoch}}_{file_name}={{{name}:.4f}}',
        monitor=name,
        mode=rule,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


def _check_ranks(trainer: L.Trainer) -> None:
    launched = int(os.environ.get('WORLD_SIZE', 1))
    if launched != trainer.world_size:
        raise ConfigError(
            f'{launched} processes were launched, but the trainer would use {trainer.world_size}: '
            'set trainer.devices to the processes of a machine, trainer.num_nodes to the machines '
            "(and, without GPUs, trainer.accelerator='cpu' and trainer.strategy='ddp')"
        )


@contextmanager
def stopped_by_signals(advice: str) -> Iterator[None]:
    """Turn Lightning's silent exit after SIGTERM or Ctrl-C into a message and an exit status."""
    try:
        yield
    except (SIGTERMException, WorkerError) as error:
        if isinstance(error, WorkerError) and error.signal != signal.SIGTERM:
            raise  # a scheduler sends SIGTERM to all processes, and the workers may be first
        print(f'stopped by SIGTERM{advice}', file=sys.stderr)
        raise SystemExit(143) from None
    except (KeyboardInterrupt, SystemExit):
        print(f'interrupted{advice}', file=sys.stderr)
        raise SystemExit(130) from None
