"""A whole run, readable at one sight: build everything, then train or evaluate."""

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from mmengine.config import Config

from psa_pose.datasets import TopdownDataset
from psa_pose.engine import build
from psa_pose.engine.callbacks import DataPosition, ProgressBar, SkipReport, TrainLog
from psa_pose.engine.module import PoseModule
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.evaluation import CocoMetric, PoseMetric
from psa_pose.evaluation.references import comparison, model_of
from psa_pose.evaluation.report import print_tables
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.registry import OPTIMIZERS, PARAM_SCHEDULERS, check_arguments, config_path
from psa_pose.visualization.results import draw_results


def train(cfg: Config, *, resume: bool = False, dry_run: bool = False) -> Path:
    """Train as the config says.

    Args:
        cfg: see `configs/`; `work_dir` and `load_from` are read from it.
        resume: go on from the last checkpoint of `work_dir`.
        dry_run: build everything, run one batch of each loader, print what was found.

    Returns:
        The last checkpoint's path (of a dry run: the work dir).
    """
    L.seed_everything(build.seed(cfg), verbose=False)
    work_dir = Path(cfg.work_dir)
    last = work_dir / 'checkpoints' / 'last.ckpt'
    _check_work_dir(last, resume, dry_run)

    train_set = build.build_dataset(cfg, 'train_dataloader')
    val_set = build.build_dataset(cfg, 'val_dataloader')
    estimator = build.build_model(cfg, train_set.info)
    metric = build.build_metric(cfg, 'val_evaluator', val_set)
    _check_trainable(train_set, metric)
    if cfg.get('load_from') and not resume:
        print(load_checkpoint(estimator, cfg.load_from))

    log_interval = _hook(cfg, 'logger', {'interval': 50})['interval']
    plain = not sys.stderr.isatty()
    trainer = build_trainer(cfg, log_every_n_steps=log_interval, fast_dev_run=dry_run, plain=plain)
    train_loader = build.build_loader(cfg, 'train_dataloader', train_set, trainer)
    val_loader = build.build_loader(cfg, 'val_dataloader', val_set, trainer)
    batch = (train_loader.batch_sampler.global_batch) * trainer.accumulate_grad_batches  # type: ignore[union-attr]
    make_optimizer, lr_text = _optimizer(cfg, batch)
    module = PoseModule(estimator, metric, make_optimizer, _schedules(cfg))
    log = TrainLog(1 if dry_run else log_interval, batch, plain)
    trainer.callbacks += [log, DataPosition(train_loader)]  # type: ignore[attr-defined]

    if trainer.is_global_zero:
        parameters = sum(p.numel() for p in estimator.parameters()) / 1e6
        print(f'train     {len(train_set)} persons of {train_set.ann_file}')
        print(f'evaluate  {len(val_set)} persons of {val_set.ann_file}, boxes: {metric.boxes}')
        print(
            f'model     {parameters:.2f} M parameters, K = {train_set.info.num_keypoints}, '
            f'crop {train_set.input_size[0]}x{train_set.input_size[1]}, '
            f'sigmas: {train_set.info.sigmas_source}'
        )
        print(f'optimizer {lr_text}')
        print(f'work dir  {work_dir}', flush=True)
        if not dry_run:
            work_dir.mkdir(parents=True, exist_ok=True)
            cfg.dump(work_dir / 'config.py')

    trainer.fit(
        module, train_loader, val_loader, ckpt_path=last if resume else None, weights_only=True
    )
    if dry_run:
        print(
            f'dry run   one training batch (loss {trainer.callback_metrics["loss"]:.6f}) and one '
            f'evaluation batch ({len(metric.predictions)} persons): all is well'
        )
        return work_dir
    if not module.metrics:  # the last epoch is no multiple of val_interval
        trainer.validate(module, val_loader, verbose=False)
    if trainer.is_global_zero:
        _print_results(cfg, module)
    return last


def test(
    cfg: Config,
    checkpoint: str | Path,
    *,
    out: Path | None = None,
    metrics_file: Path | None = None,
    show_dir: Path | None = None,
    boxes: str | None = None,
    box_thr: float | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint; where there are no annotations, only write its predictions.

    Args:
        cfg: see `configs/`; `test_dataloader` and `test_evaluator`, or else those named `val_`.
        checkpoint: its file.
        out: where to write the predictions, see `PoseMetric.write_results`.
        metrics_file: where to write the numbers, as JSON.
        show_dir: where to write pictures of the predictions.
        boxes: a file of detections or 'gt', ground truth, instead of the config's `bbox_file`.
        box_thr: instead of the config's `box_score_thr`.

    Returns:
        See `CocoMetric.compute`; without annotations `boxes` alone.

    Raises:
        ConfigError: no annotations and no `out`: nothing would come of the evaluation.
    """
    name = 'test' if 'test_dataloader' in cfg else 'val'
    evaluator = 'test_evaluator' if 'test_evaluator' in cfg else 'val_evaluator'
    _choose_boxes(cfg, f'{name}_dataloader', boxes, box_thr)
    dataset = build.build_dataset(cfg, f'{name}_dataloader')
    estimator = build.build_model(cfg, dataset.info)
    print(load_checkpoint(estimator, checkpoint, strict=True))
    metric = build.build_metric(cfg, evaluator, dataset)
    if not metric.has_truth and not out:
        raise ConfigError(
            f'{dataset.ann_file} has no annotations, so there is nothing to measure against: name '
            'a file for the predictions with --out'
        )
    trainer = build_trainer(
        cfg, logger=False, enable_checkpointing=False, plain=not sys.stderr.isatty()
    )
    loader = build.build_loader(cfg, f'{name}_dataloader', dataset, trainer)
    module = PoseModule(estimator, metric)
    if trainer.is_global_zero:
        left_out = f'; left out: {dataset.boxes_left_out}' if dataset.boxes_left_out else ''
        print(f'boxes     {dataset.boxes}{left_out}', flush=True)
    trainer.test(module, loader, verbose=False)
    if trainer.is_global_zero:
        if metric.has_truth:
            _print_results(cfg, module)
        else:
            unwritten = f', and {metrics_file} is not written' if metrics_file else ''
            print(f'metrics   none: {dataset.ann_file} has no annotations{unwritten}')
        if metrics_file and metric.has_truth:
            _write_json(metrics_file, module.metrics)
        if out:
            metric.write_results(out)
            print(f'results   {out}')
        if show_dir:
            count = draw_results(metric, show_dir)
            print(f'pictures  {show_dir} ({count})')
    return module.metrics


def build_trainer(cfg: Config, *, plain: bool, **options: Any) -> L.Trainer:
    """Lightning's Trainer; the config's `trainer` goes to it word for word."""
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    # Neither says anything that its reader could act on.
    for noise in ('.*does not have many workers.*', '.*isinstance.treespec, LeafSpec.*'):
        warnings.filterwarnings('ignore', message=noise)
    train_cfg = build.known_keys(
        cfg.get('train_cfg', {}), ('max_epochs', 'val_interval'), 'train_cfg'
    )
    wrapper = _optim_wrapper(cfg)
    work_dir = Path(cfg.work_dir)
    if options.get('logger', True):
        options['logger'] = TensorBoardLogger(work_dir, name='', version='tensorboard')
        options['callbacks'] = [*_checkpoints(cfg, work_dir), SkipReport()]
    if not plain:
        options.setdefault('callbacks', []).append(ProgressBar(refresh_rate=5))
    deterministic = cfg.get('randomness', {}).get('deterministic', False)
    arguments = {
        'max_epochs': train_cfg.get('max_epochs', 210),
        'check_val_every_n_epoch': train_cfg.get('val_interval', 1),
        'accumulate_grad_batches': wrapper.get('accumulative_counts', 1),
        'gradient_clip_val': (wrapper.get('clip_grad') or {}).get('max_norm'),
        'deterministic': deterministic or None,
        'default_root_dir': work_dir,
        'enable_progress_bar': not plain,
        'enable_model_summary': False,
        'num_sanity_val_steps': 1,
        'use_distributed_sampler': False,
        **options,
    }
    with config_path('trainer') as path:
        arguments |= cfg.get('trainer', {})
        check_arguments(L.Trainer, arguments, path)
        try:
            return L.Trainer(**arguments)
        except (
            TypeError,
            ValueError,
            L.pytorch.utilities.exceptions.MisconfigurationException,
        ) as error:
            raise ConfigError(f'{path}: {error}') from error


def _optim_wrapper(cfg: Config) -> Mapping[str, Any]:
    names = ('optimizer', 'clip_grad', 'accumulative_counts')
    return build.known_keys(cfg.get('optim_wrapper', {}), names, 'optim_wrapper')


def _optimizer(cfg: Config, batch: int) -> tuple[Any, str]:
    """What makes the optimizer, its learning rate scaled to the batch, and a line that says so."""
    options = dict(build.section(_optim_wrapper(cfg), 'optimizer', 'optim_wrapper'))
    scaling = build.known_keys(
        cfg.get('auto_scale_lr', {}), ('base_batch_size', 'enable'), 'auto_scale_lr'
    )
    reference = scaling.get('base_batch_size')
    text = f'{options.get("type")}, learning rate {options.get("lr")}'
    if reference and scaling.get('enable', True) and 'lr' in options:
        options['lr'] *= batch / reference
        text += f' x batch {batch} / reference {reference} = {options["lr"]:.3g}'
    with config_path('optim_wrapper'):  # a trial, so that a misspelt keyword stops here
        OPTIMIZERS.build(
            {**options, 'params': [torch.zeros(1, requires_grad=True)]}, at='optimizer'
        )
    return partial(_make_optimizer, options), text


def _make_optimizer(options: Mapping[str, Any], parameters: Any) -> torch.optim.Optimizer:
    return OPTIMIZERS.build({**options, 'params': parameters}, at='optimizer')


def _schedules(cfg: Config) -> list[Any]:
    entries = cfg.get('param_scheduler', [])
    entries = [entries] if isinstance(entries, Mapping) else entries
    return [PARAM_SCHEDULERS.build(e, at=f'param_scheduler.{i}') for i, e in enumerate(entries)]


def _hook(cfg: Config, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    hooks = build.known_keys(
        cfg.get('default_hooks', {}), ('checkpoint', 'logger'), 'default_hooks'
    )
    options = build.known_keys(hooks.get(name, {}), tuple(defaults), f'default_hooks.{name}')
    return {**defaults, **options}


def _checkpoints(cfg: Config, work_dir: Path) -> list[ModelCheckpoint]:
    """`last.ckpt` every `interval` epochs, and the best by `save_best` (None: no best)."""
    options = _hook(cfg, 'checkpoint', {'interval': 1, 'save_best': 'AP', 'rule': 'max'})
    folder = work_dir / 'checkpoints'
    last = ModelCheckpoint(
        folder,
        filename='last',
        every_n_epochs=options['interval'],
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    if not options['save_best']:
        return [last]
    name = options['save_best']
    best = ModelCheckpoint(
        folder, filename=f'best_{{epoch}}_{{{name}:.4f}}', monitor=name, mode=options['rule']
    )
    return [best, last]


def _check_work_dir(last: Path, resume: bool, dry_run: bool) -> None:
    if resume and not last.is_file():
        raise CheckpointError(f'--resume: there is no checkpoint {last}')
    if last.is_file() and not resume and not dry_run:
        raise CheckpointError(
            f'{last.parent} already holds a run: go on with --resume, or name another --work-dir'
        )


def _check_trainable(train_set: TopdownDataset, metric: PoseMetric) -> None:
    if getattr(train_set, 'bbox_file', None):
        raise ConfigError(
            'train_dataloader.dataset.bbox_file: detections have no keypoints to train on; boxes '
            'of a detector are for val_dataloader and test_dataloader'
        )
    if not metric.has_truth:
        raise ConfigError(f'val_dataloader: {metric.dataset.ann_file} has no annotations')


def _choose_boxes(cfg: Config, loader: str, boxes: str | None, box_thr: float | None) -> None:
    """Lay the command line's choice over the config's."""
    if boxes is None and box_thr is None:
        return
    dataset = build.section(build.section(cfg, loader), 'dataset', loader)
    if boxes == 'gt':
        for key in ('bbox_file', 'box_score_thr'):
            dataset.pop(key, None)
    elif boxes is not None:
        dataset['bbox_file'] = boxes
    if box_thr is not None:
        dataset['box_score_thr'] = box_thr


def _print_results(cfg: Config, module: PoseModule) -> None:
    """Tables, the published rows beside them, and what a reader must know of both."""
    metric = module.metric
    print_tables(metric, module.metrics)
    warnings = list(metric.warnings)
    for part, numbers in metric.parts(module.metrics):
        if isinstance(part, CocoMetric):
            lines, more = comparison(
                model_of(cfg),
                part.ann_file.name,
                numbers['AP'],
                part.boxes,
                module.estimator.flip_test,
            )
            warnings += more
            for line in lines:
                print(f'reference {line}')
    for warning in warnings:
        print(f'warning   {warning}')


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1 if isinstance(content, dict) else None) + '\n')
