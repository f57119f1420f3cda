"""Plain `nn.Module`s: attention, backbones, heads, losses and the estimator that joins them."""

from psa_pose.models.attention import CBAM, GC, PSA, SE, DensePSA, NonLocal
from psa_pose.models.backbones import HRNet, ResNet
from psa_pose.models.estimator import TopdownPoseEstimator
from psa_pose.models.heads import HeatmapHead
from psa_pose.models.losses import CombinedTargetMSELoss, KeypointMSELoss

__all__ = [
    'CBAM',
    'GC',
    'PSA',
    'SE',
    'CombinedTargetMSELoss',
    'DensePSA',
    'HRNet',
    'HeatmapHead',
    'KeypointMSELoss',
    'NonLocal',
    'ResNet',
    'TopdownPoseEstimator',
]
