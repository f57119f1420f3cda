"""Crops to record, compare and time with."""

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from psa_pose.engine.build import build_codec, build_dataset
from psa_pose.errors import ConfigError, DataError


def sample_crops(cfg: Config, count: int) -> tuple[Tensor, str]:
    """Persons of the config's evaluation, or, where it cannot be read here, made-up pictures.

    Returns:
        (count, H, W, 3) uint8, and what they are.
    """
    name = 'test_dataloader' if 'test_dataloader' in cfg else 'val_dataloader'
    try:
        dataset = build_dataset(cfg, name)
        indices = [i * len(dataset) // count for i in range(count)]
        crops = torch.stack([torch.from_numpy(dataset[i].crop) for i in indices])
        return crops, f'crops of {dataset.ann_file}'
    except (DataError, ConfigError) as error:
        return made_up_crops(build_codec(cfg).input_size, count), f'made-up crops ({error})'


def made_up_crops(size: tuple[int, int], count: int) -> Tensor:
    """(count, H, W, 3) uint8 for a (width, height): soft blots of colour, always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 6, generator=generator)
    crops = F.interpolate(coarse, (size[1], size[0]), mode='bicubic', align_corners=False)
    return (255 * crops.clamp(0, 1)).byte().permute(0, 2, 3, 1).contiguous()
