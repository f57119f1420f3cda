"""What a config's model will see of its data, as a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from psa_pose.datasets import TopdownDataset
from psa_pose.datasets.collate import collate
from psa_pose.datasets.sampling import SampleKey
from psa_pose.engine import build
from psa_pose.errors import ConfigError
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.visualization.browse import data_cells, find_left_out
from psa_pose.visualization.overlay import check_ending, contact_sheet, save
from psa_pose.visualization.person import Cell, Zoom, model_cells


def browse_dataset(
    cfg: Config,
    out: Path,
    *,
    split: str = 'train',
    count: int = 8,
    indices: Sequence[int] | None = None,
    epoch: int | None = None,
    checkpoint: str | Path | None = None,
    each_keypoint: bool = False,
) -> list[int]:
    """Write a contact sheet, a row for each person; the same arguments make the same sheet.

    Args:
        cfg: see `configs/`.
        out: the picture.
        split: 'train', augmented as in an epoch, or 'val' or 'test', as in an evaluation.
        count: how many persons, spread evenly over the dataset.
        indices: these persons instead.
        epoch: whose augmentation, counted from 0; of 'train' alone.
        checkpoint: adds what this model makes of each person: pose, heatmaps, PSA's gates.
        each_keypoint: with a checkpoint, a heatmap for each keypoint as well.

    Returns:
        The persons' places in the dataset.

    Raises:
        ConfigError: no such person or split; an epoch where nothing is random.
        DataError: annotations or an image that cannot be read.
    """
    check_ending(out)
    if epoch is not None and split != 'train':
        raise ConfigError(f'--epoch is for the augmentation of train: {split} has none')
    if epoch is not None and epoch < 0:
        raise ConfigError(f'--epoch: epochs count from 0, got {epoch}')
    if each_keypoint and not checkpoint:
        raise ConfigError("--each-keypoint shows a model's heatmaps: name a --checkpoint")
    dataset = build.build_dataset(cfg, f'{split}_dataloader')
    chosen = _checked(indices, dataset) if indices else spread(len(dataset), count)
    train_epoch = (epoch or 0) if split == 'train' else None
    keys = [SampleKey(index, train_epoch) for index in chosen]
    samples = [dataset[key] for key in keys]
    codec, left_out = build.build_codec(cfg), find_left_out(dataset, chosen)
    zoom = Zoom(dataset.input_size)
    rows = [
        data_cells(dataset, codec, key, sample, left_out, zoom)
        for key, sample in zip(keys, samples, strict=True)
    ]
    if checkpoint:
        estimator = build.build_model(cfg, dataset.info)
        print(load_checkpoint(estimator, checkpoint, strict=True))
        more = model_cells(estimator.eval(), collate(samples), zoom, each_keypoint)
        for row, sample, cells in zip(rows, samples, more, strict=True):
            row += cells if sample.usable else []
    columns = max(map(len, rows))
    blank = Cell('', rows[0][0].image[:0, :0])
    cells = [cell for row in rows for cell in [*row, *[blank] * (columns - len(row))]]
    captions, images = zip(*cells, strict=True)
    save(out, contact_sheet(images, columns, captions))
    return chosen


def spread(total: int, count: int) -> list[int]:
    """`count` of `total` places, as far from each other as can be, from the first to the last."""
    if count < 1:
        raise ConfigError(f'at least 1 person is to be shown, got {count}')
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()


def _checked(indices: Sequence[int], dataset: TopdownDataset) -> list[int]:
    for index in indices:
        if not 0 <= index < len(dataset):
            raise ConfigError(
                f'--index {index}: {dataset.ann_file} has persons 0 to {len(dataset) - 1}'
            )
    return list(indices)
