"""A training run, readable at one sight: build everything, then train."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from mmengine.config import Config

from psa_pose.datasets import TopdownDataset
from psa_pose.engine import build
from psa_pose.engine.callbacks import DataPosition, TrainLog, Whereabouts
from psa_pose.engine.checkpointing import set_aside
from psa_pose.engine.ema import EMAHook
from psa_pose.engine.evaluate import print_results
from psa_pose.engine.freeze import freeze, frozen_names, frozen_text
from psa_pose.engine.module import PoseModule
from psa_pose.engine.nonfinite import NonFiniteGuard
from psa_pose.engine.optim import build_schedules
from psa_pose.engine.panels import build_panels
from psa_pose.engine.param_groups import REST, ParamGroup, new_of, new_parameters, param_groups
from psa_pose.engine.ranks import Ranks, dist_options, read_launch, what_runs
from psa_pose.engine.record import RunRecord
from psa_pose.engine.resume import kept, newest_whole
from psa_pose.engine.signals import StopRequest, stopped_by_signals
from psa_pose.engine.step import StepOptions, step_options
from psa_pose.engine.strategy import strategy_text
from psa_pose.engine.sync_bn import sync_batch_norms
from psa_pose.engine.trainer import log_interval, training_trainer
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.evaluation import PoseMetric
from psa_pose.models.checkpoints import load_checkpoint, load_progress
from psa_pose.registry import OPTIMIZERS, config_path, known_keys


def train(
    cfg: Config,
    *,
    resume: bool | Literal['auto'] = False,
    dry_run: bool = False,
    ranks: Ranks | None = None,
) -> Path:
    """Train as the config says.

    Args:
        cfg: see `configs/`; `work_dir` and `load_from` are read from it.
        resume: go on from the newest checkpoint of `work_dir` that is whole; 'auto' starts anew
            where there is none at all.
        dry_run: build everything, run one batch of each loader, print what was found.
        ranks: the processes that train together; otherwise those that a launcher started.

    Returns:
        The last checkpoint's path (of a dry run: the work dir).
    """
    if ranks is None:
        with Ranks(read_launch(), dist_options(cfg)) as ranks:
            return train(cfg, resume=resume, dry_run=dry_run, ranks=ranks)
    L.seed_everything(build.seed(cfg), verbose=False)
    work_dir = Path(cfg.work_dir)
    folder = work_dir / 'checkpoints'
    last = folder / 'last.ckpt'
    start, damaged = _start(folder, resume, dry_run, ranks)
    resume = start is not None
    step, hooks, still = step_options(cfg), build.build_hooks(cfg), frozen_names(cfg)

    train_set = build.build_dataset(cfg, 'train_dataloader')
    val_set = build.build_dataset(cfg, 'val_dataloader')
    estimator = build.build_model(cfg, train_set.info)
    metric = build.build_metric(cfg, 'val_evaluator', val_set)
    check_trainable(train_set, metric)
    progress = load_progress(estimator, start) if start else None
    reports = [] if resume else [estimator.init_weights()]
    if cfg.get('load_from') and not resume:
        reports.append(load_checkpoint(estimator, cfg.load_from))
    sync_batch_norms(estimator, cfg, ranks.launch.ranks, step.device)
    frozen = freeze(estimator, still)

    plain = not sys.stderr.isatty()
    stop = StopRequest(ranks)
    trainer = training_trainer(
        cfg,
        metric,
        step,
        stop,
        ranks,
        plain=plain,
        dry_run=dry_run,
        resumed_step=progress['global_step'] if progress else None,
    )
    train_loader = build.build_loader(cfg, 'train_dataloader', train_set, trainer)
    val_loader = build.build_loader(cfg, 'val_dataloader', val_set, trainer)
    batch = (train_loader.batch_sampler.global_batch) * trainer.accumulate_grad_batches  # type: ignore[union-attr]
    options, lr_text, fused = scaled_optimizer(cfg, batch, step)
    new = new_of(progress) if progress else new_parameters(estimator, reports)
    paramwise_cfg = cfg.optim_wrapper.get('paramwise_cfg')
    groups = param_groups(estimator, paramwise_cfg, options, new)
    lr_text += _parts_text(groups, frozen_text(estimator, still))
    make, schedules = partial(make_optimizer, options), _schedules(cfg)
    module = PoseModule(estimator, metric, step, make, schedules, lr_text, groups, frozen)
    if progress and start:
        _check_same_optimizer(progress, lr_text, start)
        _check_same_average(progress, hooks, start)
    guard = NonFiniteGuard(max_nonfinite(cfg), train_set, folder)
    parameters = sum(p.numel() for p in estimator.parameters())
    about = {
        'config': cfg.filename,
        'seed': build.seed(cfg),
        'device': step.device,
        'step': str(step),
        'ranks': str(ranks) if ranks.several else '1',
        'parameters': parameters,
        'optimizer': lr_text,
        'train': f'{len(train_set)} persons of {train_set.ann_file}',
    }
    record = RunRecord(work_dir, about, guard, progress['global_step'] if progress else None)
    log = TrainLog(1 if dry_run else log_interval(cfg), batch, plain, guard)
    # All of them before the checkpoints, which may end the run within a step.
    panels = build_panels(cfg, val_set)  # before an EMAHook puts the average away
    callbacks = [Whereabouts(ranks), *panels, *hooks, guard, log, record]
    callbacks.append(DataPosition(train_loader))
    trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]

    ranks.same(
        {
            **what_runs(cfg, step),
            'persons to train on': train_set.fingerprint(),
            'persons to evaluate': val_set.fingerprint(),
            'starting weights': '\n'.join(map(str, filter(None, reports))),
        }
    )
    if ranks.first:
        print(f'train     {len(train_set)} persons of {train_set.ann_file}')
        print(f'evaluate  {len(val_set)} persons of {val_set.ann_file}, boxes: {metric.boxes}')
        print(
            f'model     {parameters / 1e6:.2f} M parameters, K = {train_set.info.num_keypoints}, '
            f'crop {train_set.input_size[0]}x{train_set.input_size[1]}, '
            f'sigmas: {train_set.info.sigmas_source}'
        )
        for report in filter(None, reports):
            print(report)
        for path, wrong in damaged.items():
            print(f'damaged   {path}: {wrong}')
        if progress:
            print(f'resume    {start}, after step {progress["global_step"]}')
        first, *rest = lr_text.split('\n')
        print('\n'.join([f'optimizer {first}{", fused" if fused else ""}', *rest]))
        print(f'step      {step}')
        for hook in hooks:
            print(f'hook      {type(hook).__name__}: {hook}')
        print(f'work dir  {work_dir}', flush=True)
        if ranks.several:
            print(f'ranks     {ranks}; {strategy_text(cfg)}', flush=True)
        if not dry_run:
            cfg.dump(work_dir / 'config.py')
            if start:
                set_aside(damaged, start)

    ranks.begin(trainer.strategy.root_device)
    module.control = ranks.control
    # A dry run of a resumed one tries its weights, not its position: that lies behind one epoch.
    ckpt_path = start if not dry_run else None
    with stopped_by_signals(ranks, '; go on with --resume'):
        with stop:
            trainer.fit(module, train_loader, val_loader, ckpt_path=ckpt_path, weights_only=True)
        if not dry_run and not module.metrics:  # a run that was already complete
            trainer.validate(module, val_loader, verbose=False)
    if not ranks.first:
        return last
    if dry_run:
        print(
            f'dry run   one training batch (loss {log.values["loss"]:.6f}) and one '
            f'evaluation batch ({len(metric.predictions)} persons): all is well'
        )
        return work_dir
    print_results(cfg, module)
    return last


def scaled_optimizer(
    cfg: Config, batch: int, step: StepOptions
) -> tuple[dict[str, Any], str, bool]:
    """The optimizer's options, its learning rate scaled to the batch; a line that says so; and
    whether it is fused.
    """
    wrapper = build.section(cfg, 'optim_wrapper')
    options = dict(build.section(wrapper, 'optimizer', 'optim_wrapper'))
    scaling = known_keys(cfg.get('auto_scale_lr'), ('base_batch_size', 'enable'), 'auto_scale_lr')
    text = f'{options.get("type")}, learning rate {options.get("lr")}'
    scaled = f', batch {batch}'
    if scaling.get('enable', True) and 'base_batch_size' in scaling and 'lr' in options:
        reference = build.whole_number(scaling['base_batch_size'], 'auto_scale_lr.base_batch_size')
        if not isinstance(options['lr'], int | float):
            raise ConfigError(f'optim_wrapper.optimizer.lr: not a number: {options["lr"]!r}')
        options['lr'] *= batch / reference
        scaled = f' x batch {batch} / reference {reference} = {options["lr"]:.3g}'
    # Made for the try, to stop here at a misspelt keyword.
    kind = type(make_optimizer(options, [torch.zeros(1, requires_grad=True)]))
    if step.fuses(kind, options):
        options['fused'] = True
    return options, text + scaled, bool(options.get('fused'))


def make_optimizer(options: Mapping[str, Any], parameters: Any) -> torch.optim.Optimizer:
    """An optimizer with a config's options, for parameters or groups of them."""
    with config_path('optim_wrapper'):
        return OPTIMIZERS.build({**options, 'params': parameters}, at='optimizer')


def _schedules(cfg: Config) -> list[Any]:
    return build_schedules(cfg.get('param_scheduler'), 'param_scheduler')


def _parts_text(groups: Sequence[ParamGroup], frozen: str) -> str:
    """Further lines, where parts of the model differ."""
    differ = any(group.label != REST for group in groups)
    lines = [f'\n  {group}' for group in groups] if differ else []
    return ''.join([*lines, *([f'\n  frozen {frozen}'] if frozen else [])])


def _start(
    folder: Path, resume: bool | Literal['auto'], dry_run: bool, ranks: Ranks
) -> tuple[Path | None, dict[Path, str]]:
    """The checkpoint to go on from, if any, and the damaged ones after it; rank 0 looks."""
    start: Path | None = None
    damaged: dict[Path, str] = {}
    if ranks.first:
        there = (folder / 'last.ckpt').is_file() or bool(kept(folder))
        if resume and (there or resume != 'auto'):
            start, damaged = newest_whole(folder)
        elif there and not dry_run:
            raise CheckpointError(
                f'{folder} already holds a run: go on with --resume, or name another --work-dir'
            )
        if not dry_run:  # before hours are spent on what cannot be kept
            folder.parent.mkdir(parents=True, exist_ok=True)
    name = ranks.from_first(str(start or ''))
    return (Path(name) if name else None), damaged


def max_nonfinite(cfg: Config) -> int:
    """Steps without a finite loss after which a run stops; 0 is never."""
    path = 'train_cfg.max_nonfinite'
    return build.whole_number((cfg.get('train_cfg') or {}).get('max_nonfinite', 20), path, least=0)


def _check_same_optimizer(progress: Mapping[str, Any], lr_text: str, last: Path) -> None:
    """Steps and rates of a checkpoint mean nothing under another batch or learning rate."""
    before = progress['meta'].get('optimizer')
    if before != lr_text:
        raise ConfigError(
            f"--resume: {last} was trained with '{before}', but the config now says '{lr_text}'; "
            f'to change them start a new run with --load-from {last}'
        )


def _check_same_average(
    progress: Mapping[str, Any], hooks: Sequence[L.Callback], last: Path
) -> None:
    before, now = 'current_model_state' in progress, any(isinstance(h, EMAHook) for h in hooks)
    if before != now:
        raise ConfigError(
            f'--resume: {last} was trained {"with" if before else "without"} EMAHook, but the '
            f"config's custom_hooks now {'lack' if before else 'have'} it; to change that start a "
            f'new run with --load-from {last}'
        )


def check_trainable(train_set: TopdownDataset, metric: PoseMetric) -> None:
    """Refuse what could be trained on, or evaluated, with no keypoints."""
    if getattr(train_set, 'bbox_file', None):
        raise ConfigError(
            'train_dataloader.dataset.bbox_file: detections have no keypoints to train on; boxes '
            'of a detector are for val_dataloader and test_dataloader'
        )
    if not metric.has_truth:
        raise ConfigError(f'val_dataloader: {metric.dataset.ann_file} has no annotations')
