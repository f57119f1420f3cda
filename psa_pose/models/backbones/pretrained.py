"""Backbones that start from published weights."""

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from torch import nn

from psa_pose.models.checkpoints import LoadReport, load_backbone
from psa_pose.registry import known_keys

_KEYS = ('type', 'checkpoint', 'prefix')


class PretrainedBackbone(nn.Module):
    """A backbone with MMPose's `init_cfg`.

    Args:
        init_cfg: `dict(type='Pretrained', checkpoint=...)`, a file, an address or
            `torchvision://resnet50` (see `psa_pose.models.checkpoints`), or None. MMPose's
            `prefix='backbone.'` is understood and not needed.
    """

    def __init__(self, init_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.init_cfg = _check(init_cfg)

    def init_weights(self) -> LoadReport | None:
        """Load the weights that `init_cfg` names: once, before training, not in evaluation.

        The caller prints the report; under MMEngine's `BaseModule`, which drops it, it is logged.

        Raises:
            CheckpointError: see `load_backbone`.
        """
        if not self.init_cfg:
            return None
        report = load_backbone(self, self.init_cfg['checkpoint'])
        if hasattr(self, '_params_init_info'):  # BaseModule's mark on what it initialises
            print_log(str(report), 'current')
        return report


def _check(init_cfg: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if init_cfg is None:
        return None
    if not isinstance(init_cfg, Mapping) or init_cfg.get('type') != 'Pretrained':
        raise ValueError(
            "init_cfg must be dict(type='Pretrained', checkpoint=...) or None (fresh weights are "
            f"initialised as the field's), got {init_cfg!r}"
        )
    init_cfg = known_keys(init_cfg, _KEYS, 'init_cfg')
    if not init_cfg.get('checkpoint'):
        raise ValueError("init_cfg: 'checkpoint' is missing")
    if init_cfg.get('prefix', 'backbone').rstrip('.') != 'backbone':
        raise ValueError(
            f"init_cfg.prefix must be 'backbone' or left out, got '{init_cfg['prefix']}'"
        )
    return init_cfg
