"""Residual blocks, shared by ResNet and HRNet (He et al. 2016), with a place for attention.

Attention stands after the first 3x3 convolution with its BatchNorm and ReLU: `conv1` of a
`BasicBlock`, `conv2` of a `Bottleneck` (PSA, Liu et al. 2021).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from psa_pose.registry import MODELS

MakeAttention = Callable[[int], nn.Module]
"""From a number of channels to a block that keeps the map's shape."""


def no_attention(channels: int) -> nn.Module:
    """What stands where attention would."""
    return nn.Identity()


def attention_maker(attention: Mapping[str, Any] | None) -> MakeAttention:
    """What builds a config's attention for a number of channels; `None` builds nothing."""
    if attention is None:
        return no_attention
    return lambda channels: MODELS.build(attention, at='attention', channels=channels)


def attention_text(backbone: nn.Module) -> str:
    """The attention in a backbone's blocks with its options, or '' where there is none.

    Options that change what a block computes, but not its parameters' names and shapes, would
    otherwise be lost with the config.
    """
    for name, module in backbone.named_modules():
        if name.endswith('.attention') and not isinstance(module, nn.Identity):
            options = re.sub(r'^\d+(, )?', '', module.extra_repr())  # without the channels
            return f'{type(module).__name__}({options})'
    return ''


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the map's size at stride 1, no bias, He initialisation (fan out)."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
    return layer


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        make_attention: MakeAttention = no_attention,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.attention = make_attention(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.attention(self.relu(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3 (which carries the stride, as torchvision's), 1x1 to more."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        make_attention: MakeAttention = no_attention,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.attention = make_attention(channels)
        self.conv3 = conv(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.attention(self.relu(self.bn2(self.conv2(x))))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


Block = type[BasicBlock] | type[Bottleneck]


def residual_layer(
    block: Block,
    in_channels: int,
    channels: int,
    blocks: int,
    stride: int = 1,
    make_attention: MakeAttention = no_attention,
) -> nn.Sequential:
    """`blocks` residual blocks, the first with a projection where shape or width changes."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
        )
    layers = [block(in_channels, channels, stride, downsample, make_attention)]
    layers += [
        block(out_channels, channels, make_attention=make_attention) for _ in range(1, blocks)
    ]
    return nn.Sequential(*layers)
