"""Demo data: people rendered by the project's own code, stored the way COCO stores them."""

from .dataset import render_dataset
from .scene import render_image

__all__ = ['render_dataset', 'render_image']
