"""From images and videos to keypoints: `psa_pose.Inferencer` and `psa-pose predict`."""

from psa_pose.inference.inferencer import Inferencer
from psa_pose.inference.result import PoseResult
from psa_pose.inference.smoothing import Smoothing

__all__ = ['Inferencer', 'PoseResult', 'Smoothing']
