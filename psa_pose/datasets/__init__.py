"""Persons with keypoints, from COCO-style JSON files and from MPII's."""

from psa_pose.datasets.base import TopdownDataset
from psa_pose.datasets.coco import CocoDataset, CocoStyleDataset
from psa_pose.datasets.loader import PoseDataLoader
from psa_pose.datasets.mpii import MpiiDataset

__all__ = ['CocoDataset', 'CocoStyleDataset', 'MpiiDataset', 'PoseDataLoader', 'TopdownDataset']
