"""Losses of heatmaps."""

from psa_pose.models.losses.heatmap_loss import KeypointMSELoss

__all__ = ['KeypointMSELoss']
