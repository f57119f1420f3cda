"""Small networks, moved away from where they start."""

from typing import Any

import torch
from torch import nn

from psa_pose.codecs import HeatmapCodec, MSRAHeatmap
from psa_pose.models import TopdownPoseEstimator
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo

BACKBONES = {'HRNet': {'arch': 'tiny'}, 'ResNet': {'depth': 18}}


def estimator(
    network: str = 'HRNet',
    info: KeypointInfo = COCO_KEYPOINTS,
    codec: HeatmapCodec | None = None,
    **backbone: Any,
) -> TopdownPoseEstimator:
    deconv = {'HRNet': (), 'ResNet': (32, 32, 32)}[network]
    return TopdownPoseEstimator(
        backbone={'type': network, **BACKBONES[network], **backbone},
        head={'type': 'HeatmapHead', 'deconv_out_channels': deconv},
        codec=codec or MSRAHeatmap((96, 128), (24, 32)),
        info=info,
    )


def moved(net: nn.Module, seed: int = 0) -> Any:
    """The network with BatchNorm statistics and weights that no initialisation gives."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                count = module.num_features
                module.running_mean.copy_(torch.randn(count, generator=random) * 0.1)  # type: ignore[union-attr]
                module.running_var.copy_(torch.rand(count, generator=random) + 0.5)  # type: ignore[union-attr]
                module.weight.copy_(torch.rand(count, generator=random) * 0.5 + 0.5)
                module.bias.copy_(torch.randn(count, generator=random) * 0.1)
                module.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
        if isinstance(net, TopdownPoseEstimator):
            for parameter in net.head.final_layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())
