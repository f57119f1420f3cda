"""Predictions against ground truth, with the box source in every result."""

from psa_pose.evaluation.coco_metric import CocoMetric
from psa_pose.evaluation.metric import PoseMetric
from psa_pose.evaluation.oks import oks_nms

__all__ = ['CocoMetric', 'PoseMetric', 'oks_nms']
