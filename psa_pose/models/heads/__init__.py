"""Heads: from a backbone's features to heatmaps."""

from psa_pose.models.heads.heatmap_head import HeatmapHead

__all__ = ['HeatmapHead']
