"""Predictions against ground truth, with the box source in every result."""

from psa_pose.evaluation.coco_metric import CocoMetric
from psa_pose.evaluation.group import MetricGroup
from psa_pose.evaluation.keypoint_metrics import AUC, EPE, NME, PCKAccuracy
from psa_pose.evaluation.metric import PoseMetric
from psa_pose.evaluation.mpii_metric import MpiiPCKAccuracy, pckh
from psa_pose.evaluation.oks import oks_nms

__all__ = [
    'AUC',
    'EPE',
    'NME',
    'CocoMetric',
    'MetricGroup',
    'MpiiPCKAccuracy',
    'PCKAccuracy',
    'PoseMetric',
    'oks_nms',
    'pckh',
]
