"""Keypoints to heatmaps and back, batched on the device."""

from psa_pose.codecs.msra import MSRAHeatmap

__all__ = ['MSRAHeatmap']
