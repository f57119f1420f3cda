"""Demo data: people rendered by the project's own code, stored the way COCO stores them."""

from psa_pose.datasets.synthetic.dataset import annotation_file, render_dataset
from psa_pose.datasets.synthetic.scene import render_image

__all__ = ['annotation_file', 'render_dataset', 'render_image']
