"""Pictures of poses."""

from psa_pose.visualization.results import draw_results
from psa_pose.visualization.skeleton import draw_pose

__all__ = ['draw_pose', 'draw_results']
