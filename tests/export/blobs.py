"""A network that needs no training: a crop's red, green and blue spots are its keypoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from psa_pose.codecs import MSRAHeatmap
from psa_pose.registry import KEYPOINT_CODECS, MODELS
from tests.conftest import ROOT

SIZE = (110, 140)  # of an image: width, height
CONFIG = f"""
_base_ = ['{ROOT}/configs/_base_/runtime/default.py', '{ROOT}/configs/_base_/datasets/topdown.py']
custom_imports = dict(imports=['tests.export.blobs'])
codec = dict(type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32))
model = dict(
    type='TopdownPoseEstimator',
    backbone=dict(type='Shrink'),
    head=dict(type='HeatmapHead', deconv_out_channels=()),
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=(0, 0, 0), std=(255, 255, 255)),
)
val_dataloader = dict(dataset=dict(ann_file='spots.json', data_root='ROOT'))
train_dataloader = val_dataloader
"""


@MODELS.register_module()
class Shrink(nn.Module):
    """Every fourth pixel, or as many from corner to corner; with `attention` a block before."""

    out_channels = 3

    def __init__(
        self, attention: Mapping[str, Any] | None = None, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.attention = MODELS.build(attention, at='attention') if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        if not self.align_corners:
            return x[..., ::4, ::4]
        return interpolate(x, scale_factor=0.25, mode='bilinear', align_corners=True)


@MODELS.register_module()
class Hasty(nn.Module):
    """Takes another way where it is recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.01 if torch.compiler.is_compiling() else 1.0)


@MODELS.register_module()
class Curious(nn.Module):
    """Looks at values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@KEYPOINT_CODECS.register_module()
class NumpyHeatmap(MSRAHeatmap):
    """Decodes outside PyTorch."""

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        return super().decode(torch.from_numpy(np.copy(heatmaps.numpy())))


def make(root: Path) -> tuple[Path, Path]:
    """Images with three spots each, their annotations, a config and a checkpoint in `root`.

    Returns:
        The config's and the checkpoint's path.
    """
    (root / 'images').mkdir()
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*map(np.arange, SIZE))
    images, persons = [], []
    for i in range(9):
        points = rng.uniform((25, 30), (85, 110), (3, 2))
        spots = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 9**2)) for a, b in points]
        picture = np.rint(250 * np.stack(spots[::-1], -1)).astype(np.uint8)  # BGR for OpenCV
        cv2.imwrite(str(root / 'images' / f'{i}.png'), picture)
        images.append({'id': i, 'file_name': f'images/{i}.png', 'width': 110, 'height': 140})
        box = [12, 15, 85, 108]
        flat = np.column_stack([points, np.full(3, 2)]).ravel().tolist()
        person = {'id': i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'area': 9000}
        persons.append({**person, 'bbox': box, 'keypoints': flat, 'num_keypoints': 3})
    category = {'id': 1, 'name': 'person', 'keypoints': ['nose', 'neck', 'pelvis']}
    category['skeleton'] = [[1, 2], [2, 3]]
    content = {'images': images, 'annotations': persons, 'categories': [category]}
    (root / 'spots.json').write_text(json.dumps(content))
    (root / 'config.py').write_text(CONFIG.replace("'ROOT'", repr(str(root))))
    weight = torch.eye(3).view(3, 3, 1, 1)
    state = {'head.final_layer.weight': weight, 'head.final_layer.bias': torch.zeros(3)}
    torch.save(state, root / 'spots.pth')
    return root / 'config.py', root / 'spots.pth'
