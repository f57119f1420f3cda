"""Ablation studies: a base config, what is varied, seeds and a budget; tables with their noise."""

from psa_pose.ablation.study import Cell, Study, read_study

__all__ = ['Cell', 'Study', 'read_study']
