"""ResNet with the parameter names of torchvision's (He et al. 2016)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from psa_pose.models.backbones.blocks import (
    BasicBlock,
    Block,
    Bottleneck,
    attention_maker,
    conv,
    residual_layer,
)
from psa_pose.models.backbones.pretrained import PretrainedBackbone
from psa_pose.registry import MODELS

_DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


@MODELS.register_module()
class ResNet(PretrainedBackbone):
    """The backbone of SimpleBaseline: stride 32, no classifier.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: of the image.
        attention: config of a block built with `channels` for every residual block, or None.
        attention_stages: which of the stages 1 to 4 get it.
        init_cfg: weights to start from; see `PretrainedBackbone`.

    Shapes:
        (B, in_channels, H, W) -> one map in a tuple, as MMPose has it: (B, out_channels, H / 32,
        W / 32)
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        attention: Mapping[str, Any] | None = None,
        attention_stages: Sequence[int] = (1, 2, 3, 4),
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth not in _DEPTHS:
            raise ValueError(f'depth must be one of {sorted(_DEPTHS)}, got {depth}')
        check_stages(attention_stages)
        block, counts = _DEPTHS[depth]
        self.conv1 = conv(in_channels, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        width = 64
        for stage, count in enumerate(counts, start=1):
            channels = 64 * 2 ** (stage - 1)
            make_attention = attention_maker(attention if stage in attention_stages else None)
            layer = residual_layer(
                block, width, channels, count, 1 if stage == 1 else 2, make_attention
            )
            self.add_module(f'layer{stage}', layer)
            width = channels * block.expansion
        self.out_channels = width

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return (self.layer4(self.layer3(self.layer2(self.layer1(x)))),)


def check_stages(stages: Sequence[int]) -> None:
    """Refuse a stage that a four-stage backbone does not have."""
    if not set(stages) <= {1, 2, 3, 4}:
        raise ValueError(f'attention_stages must be among 1, 2, 3, 4, got {tuple(stages)}')
