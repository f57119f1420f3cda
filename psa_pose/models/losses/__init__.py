"""Losses of heatmaps."""

from psa_pose.models.losses.heatmap_loss import CombinedTargetMSELoss, KeypointMSELoss

__all__ = ['CombinedTargetMSELoss', 'KeypointMSELoss']
