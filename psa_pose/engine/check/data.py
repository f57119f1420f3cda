"""A config's datasets: what their files say, whether they fit together, and a few real crops."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from psa_pose.datasets import MpiiDataset, TopdownDataset
from psa_pose.datasets.sampling import SampleKey
from psa_pose.engine import build
from psa_pose.engine.check.config import attempt, image_root
from psa_pose.engine.check.findings import Findings, some
from psa_pose.engine.check.images import check_images, used_images
from psa_pose.engine.check.keypoints import check_info, check_sides
from psa_pose.engine.check.mpii_sheet import read_mpii_sheet
from psa_pose.engine.check.persons import check_persons
from psa_pose.engine.check.shapes import LOADERS, at
from psa_pose.engine.check.sheet import Sheet, read_sheet
from psa_pose.engine.train import check_trainable
from psa_pose.evaluation import PoseMetric
from psa_pose.registry import DATASETS
from psa_pose.structures import MPII_KEYPOINTS, KeypointInfo

CROPS = 8  # that are made of each dataset


@dataclass
class Split:
    """What was found of a loader's dataset; None where it could not be read or built."""

    name: str
    root: Path | None = None
    sheet: Sheet | None = None
    info: KeypointInfo | None = None
    dataset: TopdownDataset | None = None
    metric: PoseMetric | None = None


def check_data(cfg: Config, findings: Findings) -> dict[str, Split]:
    """Look at the datasets of all loaders.

    Returns:
        What was found, by the loaders' names.
    """
    seen: dict[tuple[str, ...], Sheet | None] = {}
    splits = {name: _check_split(cfg, name, seen, findings) for name in LOADERS if name in cfg}
    _compare(splits, findings)
    train, val = splits.get('train_dataloader'), splits.get('val_dataloader')
    if train and val and train.dataset and val.metric:
        attempt(partial(check_trainable, train.dataset, val.metric), findings)
    return splits


def _check_split(
    cfg: Config, name: str, seen: dict[tuple[str, ...], Sheet | None], findings: Findings
) -> Split:
    split = Split(name)
    options = at(cfg, f'{name}.dataset') or {}
    if not options.get('ann_file'):
        findings.error(f'{name}.dataset', "'ann_file' is missing")
        return split
    kind = attempt(lambda: DATASETS.find(options.get('type'), f'{name}.dataset'), Findings())
    split.root = attempt(lambda: image_root(cfg, name), Findings())
    if kind is None or split.root is None:
        return split  # said already
    path = Path(options.get('data_root') or '', options['ann_file'])
    found = Findings()
    key = (str(path), str(split.root), str(kind))
    known = key in seen
    if known:
        split.sheet = seen[key]
    elif not path.is_file():
        found.error(
            f'{name}.dataset.ann_file',
            f'{path} is no file (from {Path.cwd()})',
            'paths are relative to where the run starts: correct data_root or ann_file, or see '
            'psa-pose prepare-data for COCO and MPII',
        )
    elif isinstance(kind, type) and issubclass(kind, TopdownDataset):
        read = read_mpii_sheet if issubclass(kind, MpiiDataset) else read_sheet
        split.sheet = attempt(lambda: read(path), found, str(path))
    seen[key] = split.sheet
    if not split.root.is_dir():
        found.error(f'{name}.dataset.data_prefix.img', f'{split.root} is no folder')
    if split.sheet is not None:
        _check_sheet(cfg, split, options, found)
    said = {(finding.what, finding.remedy) for finding in findings if finding.level == 'note'}
    findings.extend(finding for finding in found if (finding.what, finding.remedy) not in said)
    if not found.has_error() and (split.sheet or not known):
        _check_crops(cfg, split, findings)
    return split


def _mirrors(cfg: Config, options: Mapping[str, Any]) -> bool:
    """Whether persons of this dataset are mirrored: in training, or by the test with flips."""
    pipeline = options.get('pipeline') or []
    if any(isinstance(step, Mapping) and step.get('type') == 'RandomFlip' for step in pipeline):
        return True
    return at(cfg, 'model.test_cfg.flip_test') is not False


def _check_sheet(cfg: Config, split: Split, options: Mapping[str, Any], findings: Findings) -> None:
    sheet, where = split.sheet, str(split.sheet.path) if split.sheet else ''
    assert sheet is not None and split.root is not None
    if len(sheet.id) or not options.get('bbox_file'):
        check_persons(sheet, where, findings)
    if str(options.get('type')) == 'MpiiDataset':
        split.info = MPII_KEYPOINTS
    else:
        split.info = check_info(sheet, where, findings, _mirrors(cfg, options))
    if split.info is not None and len(sheet.id):
        check_sides(sheet, split.info, where, findings)
    if split.root.is_dir() and len(sheet.id):
        check_images(sheet, split.root, where, findings, options.get('on_error') == 'skip')


def _check_crops(cfg: Config, split: Split, findings: Findings) -> None:
    """Build the dataset as a run does, cut a few crops out, and build its metric."""
    name = split.name
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of RandomFlip: a finding by now
        split.dataset = attempt(lambda: build.build_dataset(cfg, name), findings, f'{name}.dataset')
    if split.dataset is None:
        return
    dataset, split.info = split.dataset, split.dataset.info
    if dataset.boxes_left_out:
        findings.note(f'{name}.dataset.bbox_file', f'left out: {dataset.boxes_left_out}')
    train = name == 'train_dataloader'
    loader = attempt(lambda: build.loader_options(cfg, name), Findings())
    if train and loader and len(dataset) < loader['batch_size']:
        findings.error(
            f'{name}.batch_size',
            f'a batch of {loader["batch_size"]} is larger than the dataset of {len(dataset)} '
            'persons',
            f'{max(len(dataset) // 4, 1)} would do',
        )
    step = max(len(dataset) // CROPS, 1)
    inside = made = 0
    for index in range(0, len(dataset), step):
        key = SampleKey(index, 0 if train else None)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on_error='skip': images are another check's
            crop = attempt(partial(dataset.__getitem__, key), findings, f'{name}.dataset')
        if crop is None:
            return
        width, height = dataset.input_size
        x, y = crop.keypoints[..., 0], crop.keypoints[..., 1]
        inside += int(((x >= 0) & (x < width) & (y >= 0) & (y < height) & (crop.visible > 0)).sum())
        made += int((crop.visible > 0).sum())
    if made and not inside:
        findings.error(
            f'{name}.dataset',
            f'no labelled keypoint of {CROPS} persons falls into its crop of '
            f'{dataset.input_size[0]}x{dataset.input_size[1]} pixels',
            'do boxes and keypoints belong together?',
        )
    if not train:
        evaluator = name.replace('dataloader', 'evaluator')
        evaluator = evaluator if evaluator in cfg else 'val_evaluator'
        if cfg.get(evaluator) is not None:
            make = partial(build.build_metric, cfg, evaluator, dataset)
            split.metric = attempt(make, findings, evaluator)


def _compare(splits: Mapping[str, Split], findings: Findings) -> None:
    train = splits.get('train_dataloader')
    for name, split in splits.items():
        if split is train or train is None:
            continue
        if train.info and split.info and train.info.names != split.info.names:
            differ = [n for n in train.info.names if n not in split.info.names] + [
                n for n in split.info.names if n not in train.info.names
            ]
            findings.error(
                f'{name}.dataset',
                f'K = {split.info.num_keypoints}, train_dataloader has {train.info.num_keypoints}: '
                f'{some(differ, 6) if differ else "another order"}',
                'both need the same keypoints in the same order',
            )
        if not (train.sheet and split.sheet and train.root and split.root):
            continue
        shared = used_images(train.sheet, train.root) & used_images(split.sheet, split.root)
        if shared:
            findings.warning(
                f'{name}.dataset',
                f'{len(shared)} of its images are trained on ({some(sorted(shared), 1)})',
                'its numbers say nothing of new images',
            )
