"""The text of a leaf config for a dataset: what follows from the data, and why."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.structures import KeypointInfo

SHAPES = {'upright': (3, 4), 'square': (4, 4), 'lying': (4, 3)}
LARGE = 20_000  # persons, from which the field's schedule for COCO is one for these as well
SAMPLES = 300_000  # crops that a run on fewer sees
EPOCHS = (20, 210)
BATCH = 32


@dataclass(frozen=True)
class Leaf:
    """What a leaf is written from.

    Attributes:
        source: the annotation file.
        base: of `_base_/models`.
        layout: of PSA, or None.
        info: the keypoints.
        boxes: (P, 4) x, y, width, height of persons with labels.
        persons: to train on.
        train: annotation file and image folder.
        val: likewise.
    """

    source: str
    base: str
    layout: str | None
    info: KeypointInfo
    boxes: np.ndarray
    persons: int
    train: tuple[str, str]
    val: tuple[str, str]


def leaf_text(leaf: Leaf) -> str:
    """A config file."""
    few = leaf.persons < LARGE
    schedule = 'adamw_cosine' if few else 'adam_210e'
    parts = [
        f'# {leaf.source!r}: K = {leaf.info.num_keypoints}, {leaf.persons} persons to train on.',
        '# Written by psa-pose init-config; every line may be changed. Paths are relative to where',
        '# a run starts.',
        '_base_ = [',
        "    'psa_pose::_base_/runtime/default.py',",
        f"    'psa_pose::_base_/schedules/{schedule}.py',",
        "    'psa_pose::_base_/datasets/topdown.py',",
        f"    'psa_pose::_base_/models/{leaf.base}.py',",
        ']',
        *_codec(leaf),
        *_model(leaf),
        *_loaders(leaf),
        *_evaluator(leaf),
        *(_schedule(leaf) if few else []),
    ]
    return '\n'.join(parts) + '\n'


def crop_of(boxes: np.ndarray, tiny: bool) -> tuple[tuple[int, int], str]:
    """(width, height) of crops for boxes (P, 4), and why."""
    ratio = float(np.median(boxes[:, 2] / np.maximum(boxes[:, 3], 1e-6)))
    kind = 'upright' if ratio < 0.87 else 'square' if ratio < 1.15 else 'lying'
    across, down = SHAPES[kind]
    unit = 32 if tiny else 64
    side = float(np.median(np.maximum(boxes[:, 2] / across, boxes[:, 3] / down))) * 1.25
    why = f'the median box is {ratio:.2f} times as wide as high'
    if not tiny and side > 1.5 * unit:
        unit = 96
        why += f', and large: {np.median(boxes[:, 3]):.0f} pixels high'
    return (across * unit, down * unit), why


def _codec(leaf: Leaf) -> list[str]:
    (width, height), why = crop_of(leaf.boxes, 'tiny' in leaf.base)
    sigma = {128: 1.5, 256: 2, 384: 3}[max(width, height)]
    return [
        f'# {why[0].upper()}{why[1:]}.',
        'codec = dict(',
        "    type='MSRAHeatmap',",
        f'    input_size=({width}, {height}),  # width, height',
        f'    heatmap_size=({width // 4}, {height // 4}),',
        f'    sigma={sigma},',
        ')',
    ]


def has_sides(info: KeypointInfo) -> bool:
    """Whether every keypoint whose name has a side has its mirror image."""
    flips = info.flip_indices
    sided = [any(side in name.lower() for side in ('left', 'right')) for name in info.names]
    mirrored = [flips[i] != i and flips[flips[i]] == i for i in range(len(flips))]
    return any(mirrored) and all(m or not s for m, s in zip(mirrored, sided, strict=True))


def _model(leaf: Leaf) -> list[str]:
    lines = []
    if leaf.layout:
        psa = f"attention=dict(type='PSA', layout='{leaf.layout}')"
        lines.append(f'    backbone=dict({psa}),')
    if not has_sides(leaf.info):
        lines.append('    test_cfg=dict(flip_test=False),  # see _pipeline')
    return ['model = dict(', *lines, ')'] if lines else []


def _loaders(leaf: Leaf) -> list[str]:
    lines, pipeline = [], []
    if not has_sides(leaf.info):
        pipeline = ['        pipeline=_pipeline,']
        lines = [
            "# Without RandomFlip: no two keypoints are named 'left' and 'right' of the same part.",
            '# Where none has a side, mirroring is right: add it, and flip_test above.',
            '_pipeline = [',
            "    dict(type='LoadImage'),",
            "    dict(type='RandomHalfBody'),",
            "    dict(type='RandomBBoxTransform'),",
            "    dict(type='TopdownAffine'),",
            ']',
        ]
    small = leaf.persons < 2 * BATCH
    batch = [f'    batch_size={max(leaf.persons // 4, 1)},'] if small else []
    for name, (ann_file, images) in (('train', leaf.train), ('val', leaf.val)):
        lines += [
            f'{name}_dataloader = dict(',
            *(batch if name == 'train' else []),
            '    dataset=dict(',
            *(pipeline if name == 'train' else []),
            f'        ann_file={ann_file!r},',
            f'        data_prefix=dict(img={images!r}),',
            '    ),',
            ')',
        ]
    return lines


def _evaluator(leaf: Leaf) -> list[str]:
    if leaf.info.sigmas_source != 'guessed':
        return []
    return [
        '# The file has no sigmas: OKS-AP uses guesses by body part. PCK needs none.',
        "val_evaluator = [dict(type='CocoMetric'), dict(type='PCKAccuracy', thr=0.2)]",
    ]


def _schedule(leaf: Leaf) -> list[str]:
    low, high = EPOCHS
    epochs = int(np.clip(round(SAMPLES / leaf.persons), low, high))
    lines: list[Any] = [
        f'# About {SAMPLES // 1000},000 crops in all, within {low} to {high} epochs.',
        f'train_cfg = dict(max_epochs={epochs}, val_interval={max(epochs // 20, 1)})',
    ]
    if 'tiny' not in leaf.base:  # the base's rate is one for small networks
        lines += [
            "# HRNet's own 1e-3 for batches of 128, for those of 32; scaled to the batch at hand.",
            'optim_wrapper = dict(optimizer=dict(lr=2.5e-4))',
        ]
    return lines
