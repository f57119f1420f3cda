"""Backbones whose parameters carry the names of the repositories that published their weights."""

from psa_pose.models.backbones.hrnet import HRNet
from psa_pose.models.backbones.resnet import ResNet

__all__ = ['HRNet', 'ResNet']
