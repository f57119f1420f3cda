"""Evaluating a checkpoint: tables, predictions, pictures."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from psa_pose.engine import build
from psa_pose.engine.callbacks import Whereabouts
from psa_pose.engine.module import PoseModule
from psa_pose.engine.ranks import Ranks, dist_options, read_launch, what_runs
from psa_pose.engine.record import record_test
from psa_pose.engine.signals import stopped_by_signals
from psa_pose.engine.step import step_options
from psa_pose.engine.trainer import build_trainer
from psa_pose.errors import ConfigError
from psa_pose.evaluation import CocoMetric
from psa_pose.evaluation.references import comparison, model_of
from psa_pose.evaluation.report import print_tables
from psa_pose.files import write_json
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.visualization.results import draw_results


def test(
    cfg: Config,
    checkpoint: str | Path,
    *,
    out: Path | None = None,
    metrics_file: Path | None = None,
    show_dir: Path | None = None,
    boxes: str | None = None,
    box_thr: float | None = None,
    ranks: Ranks | None = None,
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
        ranks: the processes that share the evaluation; otherwise those that a launcher started.

    Returns:
        See `CocoMetric.compute`; without annotations `boxes` alone.

    Raises:
        ConfigError: no annotations and no `out`: nothing would come of the evaluation; or an output
            is one of the files that are read.
    """
    if ranks is None:
        with Ranks(read_launch(), dist_options(cfg)) as ranks:
            return test(
                cfg,
                checkpoint,
                out=out,
                metrics_file=metrics_file,
                show_dir=show_dir,
                boxes=boxes,
                box_thr=box_thr,
                ranks=ranks,
            )
    _choose_boxes(cfg, f'{_split(cfg)}_dataloader', boxes, box_thr)
    _check_outputs(cfg, checkpoint, {'--out': out, '--metrics': metrics_file})
    for folder in (out and out.parent, metrics_file and metrics_file.parent, show_dir):
        if folder and ranks.first:  # before an evaluation whose results could not be kept
            folder.mkdir(parents=True, exist_ok=True)
    module = evaluate(cfg, checkpoint, ranks, without_truth=out is not None)
    metric = module.metric
    if ranks.first:
        if metric.has_truth:
            print_results(cfg, module)
            record_test(cfg, module, checkpoint)
        else:
            unwritten = f', and {metrics_file} is not written' if metrics_file else ''
            print(f'metrics   none: {metric.dataset.ann_file} has no annotations{unwritten}')
        if metrics_file and metric.has_truth:
            write_json(metrics_file, module.metrics)
        if out:
            metric.write_results(out)
            print(f'results   {out}')
        if show_dir:
            count = draw_results(metric, show_dir)
            print(f'pictures  {show_dir} ({count})')
    ranks.from_first('')  # srun ends the others' step, and rank 0, a while after they have ended
    return module.metrics


def evaluate(
    cfg: Config, checkpoint: str | Path, ranks: Ranks, *, without_truth: bool = False
) -> PoseModule:
    """Predict every person of a config's test data.

    Args:
        cfg: see `test`.
        checkpoint: its file.
        ranks: the processes that share the work.
        without_truth: whether predictions that nothing measures are of use.

    Returns:
        Its `metric` has the predictions, its `metrics` the numbers.

    Raises:
        ConfigError: no annotations, and that is of no use.
    """
    name = _split(cfg)
    evaluator = 'test_evaluator' if 'test_evaluator' in cfg else 'val_evaluator'
    step = step_options(cfg, training=False)
    dataset = build.build_dataset(cfg, f'{name}_dataloader')
    estimator = build.build_model(cfg, dataset.info)
    report = load_checkpoint(estimator, checkpoint, strict=True)
    metric = build.build_metric(cfg, evaluator, dataset)
    if not metric.has_truth and not without_truth:
        raise ConfigError(
            f'{dataset.ann_file} has no annotations, so there is nothing to measure against: name '
            'a file for the predictions with --out'
        )
    trainer = build_trainer(
        cfg,
        step,
        ranks,
        logger=False,
        enable_checkpointing=False,
        plain=not sys.stderr.isatty(),
        callbacks=[Whereabouts(ranks)],
    )
    loader = build.build_loader(cfg, f'{name}_dataloader', dataset, trainer)
    module = PoseModule(estimator, metric, step)
    if ranks.first:
        print(report)
        left_out = f'; left out: {dataset.boxes_left_out}' if dataset.boxes_left_out else ''
        print(f'boxes     {dataset.boxes}{left_out}', flush=True)
    ranks.same(
        {
            **what_runs(cfg, step),
            'persons to evaluate': dataset.fingerprint(),
            'checkpoint': str(report),
        }
    )
    ranks.begin(trainer.strategy.root_device)
    module.control = ranks.control
    with stopped_by_signals(ranks, ''):
        trainer.test(module, loader, verbose=False)
    return module


def _split(cfg: Config) -> str:
    return 'test' if 'test_dataloader' in cfg else 'val'


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


def _check_outputs(cfg: Config, checkpoint: str | Path, outputs: Mapping[str, Path | None]) -> None:
    """Refuse folders, and to write over what is read: annotations, boxes, weights."""
    loader = f'{_split(cfg)}_dataloader'
    dataset = build.section(build.section(cfg, loader), 'dataset', loader)
    names = [Path(dataset.get('data_root') or '', dataset.get('ann_file') or ''), checkpoint]
    read = {Path(name).resolve() for name in (*names, dataset.get('bbox_file')) if name}
    for option, path in outputs.items():
        if path and path.resolve() in read:
            raise ConfigError(f'{option} {path} is an input, and would be overwritten')
        if path and path.is_dir():
            raise ConfigError(f'{option} {path} is a folder; name a file in it')


def print_results(cfg: Config, module: PoseModule) -> None:
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
