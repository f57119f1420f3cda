"""The model of a config, built without memory, and the weights that it would start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config

from psa_pose.engine import build
from psa_pose.engine.check.config import attempt, check_parts
from psa_pose.engine.check.findings import Findings
from psa_pose.engine.check.shapes import at
from psa_pose.engine.ranks import Launch, Ranks
from psa_pose.engine.signals import StopRequest
from psa_pose.engine.step import step_options
from psa_pose.engine.sync_bn import sync_batch_norms
from psa_pose.engine.trainer import training_trainer
from psa_pose.evaluation import PoseMetric
from psa_pose.models import TopdownPoseEstimator
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.registry import METRICS
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo

_WEIGHTS = ('model.backbone.init_cfg.checkpoint', 'load_from')


def check_model(cfg: Config, info: KeypointInfo | None, findings: Findings) -> None:
    """Build the model, see that its heatmaps are the codec's, and try the weights it starts from.

    Args:
        cfg: the whole config.
        info: the dataset's keypoints; COCO's stand in for unknown ones.
        findings: to add to.
    """
    keypoints = info or COCO_KEYPOINTS
    weights = _weights(cfg, findings)
    with torch.device('meta'):
        model = attempt(lambda: build.build_model(cfg, keypoints), findings, 'model')
    if model is None or any(f.level == 'error' and f.where not in _WEIGHTS for f in findings):
        # Without its misspelt keys it is another model: what it lacks or computes says nothing.
        if model is not None:
            check_parts(cfg, model, findings)
        return
    _check_heatmaps(model, findings)
    attempt(lambda: sync_batch_norms(model, cfg, 1, step_options(cfg).device), findings)
    check_parts(cfg, model, findings)
    if info is not None and weights:
        _check_weights(cfg, info, weights, findings)


def check_trainer(cfg: Config, metric: PoseMetric | None, findings: Findings) -> None:
    """Build Lightning's Trainer with its callbacks, as a run does, and write nothing.

    Args:
        cfg: the whole config, with its `work_dir`.
        metric: the evaluator; None where its dataset cannot be read.
        findings: to add to.
    """
    step = attempt(lambda: step_options(cfg), findings)
    if step is None:
        return
    ranks = Ranks(Launch())
    attempt(
        lambda: training_trainer(
            cfg,
            metric or cast(PoseMetric, _Names(cfg)),
            step,
            StopRequest(ranks),
            ranks,
            plain=True,
            dry_run=True,
            resumed_step=None,
        ),
        findings,
    )


class _Names:
    """Stands for a metric whose dataset is missing: the names of its numbers."""

    def __init__(self, cfg: Config) -> None:
        entries = cfg.get('val_evaluator') or []
        self.names: list[str] = []
        for entry in entries if isinstance(entries, list | tuple) else [entries]:
            try:
                kind = METRICS.find(entry['type'], '')
            except Exception:  # said already
                kind = None
            names = getattr(kind, 'names', ())
            if not names:  # unknown before it is built: then every name is possible
                names = [at(cfg, 'default_hooks.checkpoint.save_best') or 'AP']
            prefix = entry.get('prefix') if hasattr(entry, 'get') else None
            self.names += [f'{prefix}/{name}' if prefix else name for name in names]


def _check_heatmaps(model: TopdownPoseEstimator, findings: Findings) -> None:
    """What `TopdownPoseEstimator.loss` would stop at in the first step."""
    codec, k = model.codec, model.info.num_keypoints
    (width, height), (columns, rows) = codec.input_size, codec.heatmap_size
    expected = (1, k * codec.channels_per_keypoint, rows, columns)
    try:
        with torch.device('meta'), torch.inference_mode():
            heatmaps = model(torch.empty(1, 3, height, width))
    except Exception as error:  # a network of the user's own, which may need real numbers
        if width % 32 or height % 32:
            findings.error(
                'codec.input_size',
                f'the model takes no images of {width} x {height} pixels (width x height)',
                'choose multiples of 32',
            )
        else:
            findings.note('model', f'could not be tried without memory: {error}')
        return
    if tuple(heatmaps.shape) != expected:
        made = f'{heatmaps.shape[3]} x {heatmaps.shape[2]}'
        findings.error(
            'codec.heatmap_size',
            f'{columns} x {rows} (width x height), but of {width} x {height} pixels the model '
            f'makes {heatmaps.shape[1]} heatmaps of {made}',
            f'set codec.heatmap_size to ({heatmaps.shape[3]}, {heatmaps.shape[2]})',
        )
        return
    attempt(lambda: model.head.loss(heatmaps, heatmaps, heatmaps[:, :k, 0, 0]), findings)


def _weights(cfg: Config, findings: Findings) -> dict[str, str]:
    """Files of weights to start from, by their places in the config."""
    named = {path: str(at(cfg, path) or '') for path in _WEIGHTS}
    return {path: name for path, name in named.items() if _is_there(path, name, findings)}


def _check_weights(
    cfg: Config, info: KeypointInfo, weights: Mapping[str, str], findings: Findings
) -> None:
    """Load them into a real model: the one sure way to know that they fit."""
    model = attempt(lambda: build.build_model(cfg, info), findings)
    backbone, whole = _WEIGHTS
    if backbone in weights:
        _say(attempt(model.init_weights, findings, backbone), backbone, findings)
    if whole in weights:
        report = attempt(lambda: load_checkpoint(model, weights[whole]), findings, whole)
        _say(report, whole, findings)


def _say(report: Any, where: str, findings: Findings) -> None:
    if report is not None:
        findings.note(where, str(report).partition('\n')[0])


def _is_there(path: str, name: str, findings: Findings) -> bool:
    if not name:
        return False
    if '://' in name:
        findings.note(path, f'{name} is downloaded when the run starts, unless it is there already')
        return False
    if not Path(name).is_file():
        findings.error(path, f'{name} is no file', 'paths are relative to where the run starts')
        return False
    return True
