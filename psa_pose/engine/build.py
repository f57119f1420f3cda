"""Parts of a run, each built from its place in the config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from mmengine.config import Config

from psa_pose.codecs import HeatmapCodec
from psa_pose.datasets import PoseDataLoader, TopdownDataset
from psa_pose.engine.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.evaluation import MetricGroup, PoseMetric
from psa_pose.models import TopdownPoseEstimator
from psa_pose.registry import (
    DATASETS,
    HOOKS,
    KEYPOINT_CODECS,
    METRICS,
    MODELS,
    config_path,
    known_keys,
    refuse,
)
from psa_pose.structures import KeypointInfo


def build_model(
    config: str | Path | Config, info: KeypointInfo | None = None
) -> TopdownPoseEstimator:
    """The estimator of a config, with fresh weights.

    Args:
        config: a config, or the name of its file (`configs/coco/hrnet_w32_psa_p_256x192.py`).
        info: the dataset's keypoints; otherwise those of the config's dataset, whose annotation
            file is read unless the dataset's type knows them (`CocoDataset`).

    Raises:
        ConfigError: see `Registry.build`.
        DataError: the keypoints stand in an annotation file that cannot be read.
    """
    cfg = config if isinstance(config, Config) else load_config(config)
    return MODELS.build(
        section(cfg, 'model'),
        at='model',
        codec=build_codec(cfg),
        info=info or keypoint_info(cfg),
    )


def build_codec(cfg: Config) -> HeatmapCodec:
    """The one codec of a config."""
    return KEYPOINT_CODECS.build(section(cfg, 'codec'), at='codec')


def keypoint_info(cfg: Config) -> KeypointInfo:
    """What the config's dataset says of its keypoints."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if name in cfg:
            dataset = section(section(cfg, name), 'dataset', name)
            with config_path(name), config_path('dataset') as path:
                cls = DATASETS.find(dataset.get('type'), path)
            return cls.keypoint_info(
                Path(dataset.get('data_root', ''), dataset.get('ann_file', ''))
            )
    raise ConfigError('config: no train_dataloader, val_dataloader or test_dataloader')


def build_dataset(cfg: Config, name: str) -> TopdownDataset:
    """The dataset of the loader `name`, for crops as the codec needs them."""
    codec = build_codec(cfg)
    with config_path(name):
        return DATASETS.build(
            section(section(cfg, name), 'dataset', name),
            at='dataset',
            input_size=codec.input_size,
            unbiased_affine=codec.unbiased_affine,
            seed=seed(cfg),
        )


def build_loader(
    cfg: Config, name: str, dataset: TopdownDataset, trainer: L.Trainer
) -> PoseDataLoader:
    """The loader `name`; its `batch_size` is one rank's, as in MMPose."""
    options = loader_options(cfg, name)
    try:
        return PoseDataLoader(
            dataset,
            **options,
            train=name == 'train_dataloader',
            seed=seed(cfg),
            rank=trainer.global_rank,
            ranks=trainer.world_size,
            pin_memory=trainer.strategy.root_device.type == 'cuda',
        )
    except ValueError as error:
        raise ConfigError(f'{name}: {error}') from None


def loader_options(cfg: Config, name: str) -> dict[str, int]:
    """What the loader `name` says of itself, beside its dataset."""
    defaults = {'batch_size': (32, 1), 'num_workers': (0, 0), 'timeout': (600, 0)}
    given = known_keys(section(cfg, name), ('dataset', *defaults), name)
    return {
        key: whole_number(given.get(key, default), f'{name}.{key}', least)
        for key, (default, least) in defaults.items()
    }


def build_metric(cfg: Config, name: str, dataset: TopdownDataset) -> PoseMetric:
    """The evaluator `name`, about a dataset's persons; a list makes a `MetricGroup`.

    An entry of a list may have a `prefix` for the names of its numbers.
    """
    entries = section(cfg, name)
    if not isinstance(entries, list | tuple):
        return METRICS.build(entries, at=name, dataset=dataset)
    if not entries:
        raise ConfigError(f'{name}: an empty list, expected at least one metric')
    metrics, prefixes = [], []
    for i, entry in enumerate(entries):
        options = dict(entry) if isinstance(entry, Mapping) else entry
        prefixes.append(options.pop('prefix', '') if isinstance(options, dict) else '')
        with config_path(name):
            metrics.append(METRICS.build(options, at=str(i), dataset=dataset))
    try:
        return MetricGroup(metrics, prefixes)
    except ValueError as error:
        raise ConfigError(f'{name}: {error}') from None


def build_hooks(cfg: Config) -> list[L.Callback]:
    """The callbacks of `custom_hooks`."""
    hooks = []
    for i, entry in enumerate(cfg.get('custom_hooks') or []):
        with config_path('custom_hooks'):
            hook = HOOKS.build(entry, at=str(i))
        if not isinstance(hook, L.Callback):
            raise ConfigError(
                f'custom_hooks.{i}: {type(hook).__name__} is no lightning.Callback; hooks of '
                "MMEngine's Runner do not run here"
            )
        hooks.append(hook)
    return hooks


def seed(cfg: Config) -> int:
    """The one number from which order, augmentation and fresh weights follow."""
    options = known_keys(cfg.get('randomness'), ('seed', 'deterministic'), 'randomness')
    return whole_number(options.get('seed', 0), 'randomness.seed', least=0)


def section(cfg: Mapping[str, Any] | Config, name: str, within: str = 'config') -> Any:
    """A part of the config that must be there."""
    if not isinstance(cfg, Mapping | Config):
        raise ConfigError(f'{within}: expected dict(...), got {cfg!r}')
    if cfg.get(name) is None:
        raise ConfigError(f"{within}: '{name}' is missing")
    return cfg[name]


def whole_number(value: Any, path: str, least: int = 1) -> int:
    """A number that counts something, or an error that names its place."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        refuse(ConfigError(f'{path}: expected a whole number from {least} on, got {value!r}'))
        return least
    return value


def truth(value: Any, path: str) -> bool:
    """A switch, or an error that names its place."""
    if not isinstance(value, bool):
        refuse(ConfigError(f'{path}: expected True or False, got {value!r}'))
    return bool(value)
