"""Pictures of poses."""

from psa_pose.visualization.overlay import contact_sheet, overlay
from psa_pose.visualization.results import draw_results
from psa_pose.visualization.skeleton import draw_pose

__all__ = ['contact_sheet', 'draw_pose', 'draw_results', 'overlay']
