"""What a config's run takes of a machine, as far as it can be counted beforehand."""

import warnings
from collections.abc import Mapping
from contextlib import suppress

import torch
from mmengine.config import Config

from psa_pose.datasets import PoseDataLoader
from psa_pose.engine import build
from psa_pose.engine.check.data import Split
from psa_pose.engine.check.machine import Needs
from psa_pose.engine.check.shapes import at
from psa_pose.engine.step import step_options
from psa_pose.models.cost import measure
from psa_pose.structures import COCO_KEYPOINTS

_FLOAT = 4
_OF_ADAM = 3  # the weights and two moments; in memory the gradients as well


def needs_of(cfg: Config, splits: Mapping[str, Split], gpu: bool) -> Needs:
    """Of a config; where it is wrong, or its data missing, only what is still known.

    Args:
        cfg: the whole config.
        splits: what was found of its data.
        gpu: whether to count the memory of a training step, which takes a second or two.
    """
    shared = workers = disk = step_memory = 0
    accelerator, dtype, info = 'auto', '', COCO_KEYPOINTS
    for name in ('train_dataloader', 'val_dataloader'):
        split = splits.get(name)
        with suppress(Exception):  # said already
            options = build.loader_options(cfg, name)
            workers = max(workers, options['num_workers'])
            if split and split.info:
                info = split.info
            if split and split.dataset:
                batch, count = options['batch_size'], options['num_workers']
                with warnings.catch_warnings():  # PyTorch's, of cores: `check_machine` says it
                    warnings.simplefilter('ignore')
                    loader = PoseDataLoader(split.dataset, batch, train=False, num_workers=count)
                shared += loader.shared_memory_needed
    with suppress(Exception):
        accelerator = at(cfg, 'trainer.accelerator') or 'auto'
        dtype = at(cfg, 'optim_wrapper.dtype') or ''
    with suppress(Exception):
        with torch.device('meta'):
            model = build.build_model(cfg, info)
        weights = sum(p.numel() for p in model.parameters()) * _FLOAT
        kept_files = at(cfg, 'default_hooks.checkpoint.max_keep_ckpts') or 2
        disk = weights * _OF_ADAM * (max(kept_files, 1) + 2)  # the best, and the one being written
        if gpu:
            width, height = model.codec.input_size
            kept = sum(measure(model, height, width).kept_bytes.values())
            half = 2 if step_options(cfg).dtype != 'float32' else 1
            batch = build.loader_options(cfg, 'train_dataloader')['batch_size']
            step_memory = weights * (_OF_ADAM + 1) + kept * batch // half
    return Needs(shared, workers, disk, str(accelerator), str(dtype), step_memory)
