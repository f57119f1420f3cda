"""A checkpoint made ready for others: weights alone, a model card, a checksum in the name."""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

import psa_pose
from psa_pose.engine.build import keypoint_info
from psa_pose.engine.config import load_config
from psa_pose.engine.environment import commit
from psa_pose.engine.model_card import as_markdown, mmpose_dataset_meta
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.files import write_bytes, write_text
from psa_pose.models.checkpoints.formats import CARD, Weights, recognise
from psa_pose.models.checkpoints.read import read_checkpoint
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo, guess_sigmas

FORMATS = ('pth', 'safetensors', 'mmpose')


def publish(
    checkpoint: Path,
    out: Path,
    *,
    config: str | Path | None = None,
    metrics_file: Path | None = None,
    file_format: str | None = None,
) -> Path:
    """Write a model for others to use; optimizer, schedule and positions stay behind.

    Args:
        checkpoint: of a run, or any file that `load_checkpoint` takes and that has a head.
        out: such as `models/hrnet.pth`, written as `models/hrnet-<8 hex digits of sha256>.pth`, and
            beside it the card as `.md`.
        config: of the model; default: the `config.py` of the run.
        metrics_file: numbers of `tools/test.py --metrics`; default: those in the checkpoint.
        file_format: 'pth', 'safetensors' or 'mmpose' (which MMPose 1.x loads); default: as `out`
            ends.

    Returns:
        The file's path.

    Raises:
        CheckpointError: the file cannot be read safely, or is no whole pose model.
        ConfigError: unknown format; a config or metrics file that cannot be read.
    """
    file_format = _file_format(out, file_format)
    content = read_checkpoint(checkpoint)
    weights = recognise(content, checkpoint)
    if not {'backbone', 'head'} <= {name.split('.')[0] for name in weights.state}:
        raise CheckpointError(
            f'{checkpoint} ({weights.format}) has no backbone and head to publish'
        )
    cfg = _config(checkpoint, config)
    card = _card(checkpoint, content, weights, cfg, metrics_file)
    state = {name: value.detach().clone().contiguous() for name, value in weights.state.items()}

    out.parent.mkdir(parents=True, exist_ok=True)
    if file_format == 'safetensors':
        from safetensors.torch import save

        suffix, data = '.safetensors', save(state, {'format': 'pt', CARD: json.dumps(card)})
    else:
        meta: dict[str, Any] = {CARD: card}
        if file_format == 'mmpose':
            meta['dataset_meta'] = mmpose_dataset_meta(_keypoints(weights, cfg, checkpoint))
        file = io.BytesIO()
        torch.save({'meta': meta, 'state_dict': state}, file)
        suffix, data = '.pth', file.getvalue()
    published = out.with_name(f'{out.stem}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}')
    write_bytes(published, data)
    write_text(published.with_suffix('.md'), as_markdown(published.name, card))
    size = published.stat().st_size / 1e6
    print(f'published {published}: {size:.1f} MB of {checkpoint.stat().st_size / 1e6:.1f} MB')
    print(f'card      {published.with_suffix(".md")}')
    for name in (n for n in ('config', 'metrics', 'keypoint_names') if not card[n]):
        print(f'warning   the card says nothing of {name}')
    return published


def _file_format(out: Path, file_format: str | None) -> str:
    suffix = out.suffix.lstrip('.')
    chosen = file_format or suffix
    if chosen not in FORMATS:
        raise ConfigError(
            f"{out}: unknown format '{chosen}': end the name in .pth or .safetensors, or give "
            f'--format {", ".join(FORMATS)}'
        )
    expected = 'safetensors' if chosen == 'safetensors' else 'pth'
    if suffix and suffix != expected:
        raise ConfigError(f"{out}: a file of format '{chosen}' ends in .{expected}")
    return chosen


def _config(checkpoint: Path, config: str | Path | None) -> Config | None:
    if config:
        return load_config(config)
    own = checkpoint.resolve().parent.parent / 'config.py'
    if not own.is_file():
        return None
    cfg = load_config(own)
    cfg.pop('work_dir', None)  # a place on the machine of who trained
    return cfg


def _card(
    checkpoint: Path,
    content: Mapping[str, Any],
    weights: Weights,
    cfg: Config | None,
    metrics_file: Path | None,
) -> dict[str, Any]:
    """What a user of the model wants to know; plain values only."""
    metrics = _read_metrics(metrics_file) if metrics_file else weights.meta.get('metrics')
    numbers = metrics if isinstance(metrics, Mapping) else {}
    metrics = {name: v for name, v in numbers.items() if isinstance(v, int | float | str)}
    return {
        'source': f'{checkpoint.name} ({weights.format})',
        'epochs': content['epoch'] + 1 if isinstance(content.get('epoch'), int) else None,
        'steps': content.get('global_step'),
        'parameters': _count(weights.state),
        'attention': weights.meta.get('attention'),
        'keypoint_names': list(weights.keypoints or ()),
        'skeleton': weights.meta.get('skeleton'),
        'sigmas': weights.meta.get('sigmas'),
        'data': {part: _data(cfg, part) for part in ('train', 'val')},
        'boxes': metrics.pop('boxes', None),
        'metrics': metrics,
        'versions': {
            'psa_pose': psa_pose.__version__,
            'commit': commit(),
            'torch': torch.__version__.partition('+')[0],
            'lightning': content.get('pytorch-lightning_version'),
            'python': platform.python_version(),
        },
        'config': cfg.pretty_text if cfg is not None else None,
    }


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path}: cannot read metrics: {error}') from None
    if not isinstance(metrics, dict):
        raise ConfigError(f'{path}: expected numbers by name, as tools/test.py --metrics writes')
    return metrics


def _data(cfg: Config | None, part: str) -> str | None:
    dataset = ((cfg or {}).get(f'{part}_dataloader') or {}).get('dataset') or {}
    return f'{dataset.get("type")}, {Path(dataset["ann_file"]).name}' if dataset else None


def _count(state: Mapping[str, Tensor]) -> int:
    """Parameters: what BatchNorm counts and averages is none."""
    kept = ('.running_mean', '.running_var', '.num_batches_tracked')
    return sum(value.numel() for name, value in state.items() if not name.endswith(kept))


def _keypoints(weights: Weights, cfg: Config | None, checkpoint: Path) -> KeypointInfo:
    """Those of the checkpoint, with skeleton and sigmas where they are to be had."""
    names = weights.keypoints
    if names == COCO_KEYPOINTS.names:
        return COCO_KEYPOINTS
    try:
        info = keypoint_info(cfg) if cfg is not None else None
    except DataError:
        info = None  # the annotation file that knows them is not here
    if info and (names is None or info.names == names):
        return info
    if names is None:
        raise CheckpointError(f'{checkpoint} does not say its keypoints: give --config')
    return KeypointInfo(names, (), *guess_sigmas(names))
