"""Weights from files: read without running them, recognised, renamed, fitted, and reported.

A file's way: `fetch` finds it, `read` opens it, `formats` says whose it is and puts its names
into the estimator's (`backbone.`, `head.`), `keypoints` fits a head of other keypoints, `fit`
compares names and shapes, `causes` guesses why they differ, `report` says what became of each.
"""

from psa_pose.models.checkpoints.load import load_backbone, load_checkpoint, load_progress
from psa_pose.models.checkpoints.report import LoadReport

__all__ = ['LoadReport', 'load_backbone', 'load_checkpoint', 'load_progress']
