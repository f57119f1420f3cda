"""Run by MMPose's Python: networks of this project, built and differentiated by MMPose's classes.

Prints one JSON line: for each the shape of its heatmaps, and parameters that got no gradient.
"""

import json
import sys
from pathlib import Path

import mmpose
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules

register_all_modules()
# MMPose's environment need not have these: it is as if it had none of them.
for name in ('lightning', 'faster_coco_eval', 'timm', 'safetensors', 'tensorboard'):
    sys.modules[name] = None

CONFIGS = Path(mmpose.__file__).parent / '.mim/configs/body_2d_keypoint/topdown_heatmap/coco'
NETWORKS = {'HRNet': 'hrnet-w32', 'ResNet': 'res50'}
ATTENTION = [
    {'type': 'PSA', 'layout': 'parallel'},
    {'type': 'PSA', 'layout': 'sequential'},
    {'type': 'DensePSA'},
    {'type': 'NonLocal'},
    None,
]


def mmposes(backbone):
    """MMPose's own config, as it comes, and without weights."""
    config = Config.fromfile(CONFIGS / f'td-hm_{NETWORKS[backbone]}_8xb64-210e_coco-256x192.py')
    config.model.backbone.init_cfg = None
    return config.model


def build(backbone, attention):
    config = mmposes(backbone)
    config.backbone.update(type=f'psa_pose.{backbone}', attention=attention)
    torch.manual_seed(0)
    model = MODELS.build(config)
    heatmaps = model(torch.randn(2, 3, 64, 64), None, mode='tensor')
    heatmaps.square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    blocks = sum(
        type(m).__module__.startswith('psa_pose.models.attention') for m in model.modules()
    )
    return {
        'attention': attention and attention['type'],
        'type': f'{type(model.backbone).__module__.split(".")[0]}.{backbone}',
        'blocks': blocks,
        'shape': list(heatmaps.shape),
        'without gradient': dead,
    }


def same_names(backbone):
    """Whether our parameters without attention are MMPose's, name by name and shape by shape."""
    states = []
    for kind in (backbone, f'psa_pose.{backbone}'):
        config = mmposes(backbone)
        config.backbone.type = kind
        states.append({n: v.shape for n, v in MODELS.build(config).state_dict().items()})
    return states[0] == states[1]


print(
    json.dumps(
        {
            'built': [build('HRNet', a) for a in ATTENTION[:3]]
            + [build('ResNet', a) for a in ATTENTION],
            'same names': [same_names(backbone) for backbone in NETWORKS],
        }
    )
)
