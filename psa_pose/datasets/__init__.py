"""Persons with keypoints, from COCO-style JSON files."""

from psa_pose.datasets.coco import CocoDataset, CocoStyleDataset
from psa_pose.datasets.loader import PoseDataLoader

__all__ = ['CocoDataset', 'CocoStyleDataset', 'PoseDataLoader']
