"""Lightning's Trainer from a config: its callbacks and its logger."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from mmengine.config import Config

from psa_pose.engine.build import truth, whole_number
from psa_pose.engine.callbacks import EvaluationLog, ProgressBar, SkipReport
from psa_pose.engine.checkpoint_io import SAVE_ERROR_POLICIES, AtomicCheckpointIO
from psa_pose.engine.checkpointing import BestCheckpoint, RotatingCheckpoint
from psa_pose.engine.memory import keep_large_blocks
from psa_pose.engine.ranks import LaunchEnvironment, Ranks
from psa_pose.engine.signals import StopRequest
from psa_pose.engine.step import StepOptions, check_moved
from psa_pose.engine.strategy import build_strategy
from psa_pose.engine.vis_backends import build_loggers
from psa_pose.errors import ConfigError, nearest
from psa_pose.evaluation import PoseMetric
from psa_pose.registry import check_arguments, config_path, known_keys

CHECKPOINT = {
    'interval': 1,
    'by_epoch': True,
    'max_keep_ckpts': 2,
    'save_last': True,
    'save_best': 'AP',
    'rule': 'max',
    'on_save_error': 'stop',
}
"""`default_hooks.checkpoint`: MMEngine's words; see `RotatingCheckpoint`, `AtomicCheckpointIO`."""


class EvaluateLastEpoch(Callback):
    """The last epoch is evaluated even if it is no multiple of `val_interval`, as in MMEngine."""

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.on_train_epoch_start(trainer, module)  # a run that goes on within an epoch


def training_trainer(
    cfg: Config,
    metric: PoseMetric,
    step: StepOptions,
    stop: StopRequest,
    ranks: Ranks,
    *,
    plain: bool,
    dry_run: bool,
    resumed_step: int | None,
) -> L.Trainer:
    """A Trainer that trains, evaluates, logs and keeps checkpoints.

    Args:
        cfg: the whole config.
        metric: says which numbers there are to choose the best checkpoint by.
        step: how a step is computed.
        stop: says whether a signal asks to stop.
        ranks: the processes that train.
        plain: lines instead of a progress bar.
        dry_run: one batch of each kind, nothing written.
        resumed_step: of the checkpoint that the run goes on from; later entries are purged.
    """
    options = hook_options(cfg, 'checkpoint', CHECKPOINT)
    folder = Path(cfg.work_dir) / 'checkpoints'
    rotating = _rotating_checkpoint(folder, options, stop)
    callbacks: list[Callback] = [EvaluateLastEpoch(), SkipReport()]
    if options['save_best']:
        callbacks.append(_best_checkpoint(folder, options, metric))
    callbacks.append(rotating)
    loggers = build_loggers(cfg, resumed_step, start=ranks.first and not dry_run)
    return build_trainer(
        cfg,
        step,
        ranks,
        plain=plain,
        callbacks=callbacks,
        fast_dev_run=dry_run,
        logger=loggers,
        log_every_n_steps=log_interval(cfg),
        plugins=[AtomicCheckpointIO(options['on_save_error'])],
    )


def log_interval(cfg: Config) -> int:
    """Steps between two readings of the loss."""
    interval = hook_options(cfg, 'logger', {'interval': 50})['interval']
    return whole_number(interval, 'default_hooks.logger.interval')


def build_trainer(
    cfg: Config, step: StepOptions, ranks: Ranks, *, plain: bool, **options: Any
) -> L.Trainer:
    """Lightning's Trainer; the config's `trainer` goes to it word for word."""
    if step.device == 'cpu':
        keep_large_blocks()
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    # Where it advises TF32, by a function that PyTorch no longer recommends.
    logging.getLogger('lightning.fabric').setLevel(logging.WARNING)
    # None of these says anything that its reader could act on.
    for noise in (
        '.*does not have many workers.*',
        '.*but have no .val_dataloader.*',
        '.*smaller than the logging interval.*',
        '.*isinstance.treespec, LeafSpec.*',
        '.*Grad strides do not match bucket view strides.*',
        '.*Checkpoint directory .* exists and is not empty.*',
        '.*The `srun` command is available.*',
    ):
        warnings.filterwarnings('ignore', message=noise)
    train_cfg = known_keys(
        cfg.get('train_cfg'), ('max_epochs', 'val_interval', 'max_nonfinite'), 'train_cfg'
    )
    progress = EvaluationLog() if plain else ProgressBar(refresh_rate=5)
    options['callbacks'] = [*options.get('callbacks', []), progress]
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
        'devices': ranks.lightning_devices(step.device),
        'strategy': build_strategy(cfg, ranks.launch, step),
        **step.trainer_arguments(),
        **options,
    }
    with config_path('trainer') as path:
        arguments |= known_keys(cfg.get('trainer'), None, '')
        arguments = check_arguments(L.Trainer, arguments, path)
        check_moved(cfg.get('trainer') or {})
        environment = LaunchEnvironment(ranks.launch)
        arguments['plugins'] = [*arguments.get('plugins', []), environment]
        try:
            trainer = L.Trainer(**arguments)
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ConfigError(f'{path}: {error}') from error
    return trainer


def hook_options(cfg: Config, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """An entry of `default_hooks` over its defaults."""
    names = ('checkpoint', 'logger', 'visualization')
    hooks = known_keys(cfg.get('default_hooks'), names, 'default_hooks')
    options = known_keys(hooks.get(name), tuple(defaults), f'default_hooks.{name}')
    return {**defaults, **options}


def _rotating_checkpoint(
    folder: Path, options: dict[str, Any], stop: StopRequest
) -> RotatingCheckpoint:
    at = 'default_hooks.checkpoint'
    keep = options['max_keep_ckpts']
    if keep != -1:
        whole_number(keep, f'{at}.max_keep_ckpts (or -1 for all)')
    if options['on_save_error'] not in SAVE_ERROR_POLICIES:
        raise ConfigError(
            f"{at}.on_save_error must be 'stop' or 'continue', got {options['on_save_error']!r}"
        )
    return RotatingCheckpoint(
        folder,
        stop,
        interval=whole_number(options['interval'], f'{at}.interval'),
        by_epoch=truth(options['by_epoch'], f'{at}.by_epoch'),
        max_keep_ckpts=keep,
        save_last=truth(options['save_last'], f'{at}.save_last'),
    )


def _best_checkpoint(folder: Path, options: dict[str, Any], metric: PoseMetric) -> BestCheckpoint:
    name, rule = options['save_best'], options['rule']
    if name not in metric.names:
        raise ConfigError(
            f"default_hooks.checkpoint.save_best: no evaluator gives '{name}'; "
            f'{nearest(name, metric.names)}'
        )
    if rule not in ('max', 'min'):
        raise ConfigError(f"default_hooks.checkpoint.rule must be 'max' or 'min', got '{rule}'")
    file_name = name.replace('/', '_')  # of a metric with a prefix
    return BestCheckpoint(
        folder,
        filename=f'best_epoch={{epoch}}_{file_name}={{{name}:.4f}}',
        monitor=name,
        mode=rule,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
