"""Keypoints to heatmaps and back, batched on the device."""

from psa_pose.codecs.base import HeatmapCodec
from psa_pose.codecs.msra import MSRAHeatmap
from psa_pose.codecs.udp import UDPHeatmap

__all__ = ['HeatmapCodec', 'MSRAHeatmap', 'UDPHeatmap']
