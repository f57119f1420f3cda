"""Attention blocks: `nn.Module`s built with `channels` that return a map of the input's shape."""

from psa_pose.models.attention.psa import PSA

__all__ = ['PSA']
