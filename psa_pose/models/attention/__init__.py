"""Attention blocks: `nn.Module`s built with `channels` that return a map of the input's shape."""

from psa_pose.models.attention.dense_psa import DensePSA
from psa_pose.models.attention.non_local import NonLocal
from psa_pose.models.attention.psa import PSA
from psa_pose.models.attention.rivals import CBAM, GC, SE

__all__ = ['CBAM', 'GC', 'PSA', 'SE', 'DensePSA', 'NonLocal']
