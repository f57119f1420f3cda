"""Blocks to compare PSA with, from timm: `pip install 'psa-pose[rivals]'`.

Every block takes PSA's place, after the 3x3 convolution inside a residual block. Their papers put
them at the end of the residual branch, with four times the channels in a `Bottleneck`: what is
compared here is the block, not the papers' networks.
"""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from psa_pose.errors import ConfigError, nearest
from psa_pose.models.attention.pixels import check_map
from psa_pose.registry import MODELS, config_path

# HRNet's branches have as few as 18 channels, and a sixteenth of those is one: the LayerNorm of GC
# would make it zero, whatever the image.
MIN_WIDTH = 8
FUSES = ('add', 'scale')


class _FromTimm(nn.Module):
    """One of timm's blocks: B x C x H x W -> the same shape, dtype and memory format."""

    def __init__(self, channels: int, block: nn.Module) -> None:
        super().__init__()
        self.channels = channels
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        check_map(x, self.channels, type(self).__name__)
        return self.block(x)


@MODELS.register_module()
class SE(_FromTimm):
    """Squeeze-and-Excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

    `x * sigmoid(W2 relu(W1 mean(x)))`, without biases: the paper removes them in ResNets (timm's
    default has them, and rounds the width inside to multiples of 8). Deviation: that width is at
    least 8.

    Args:
        channels: C.
        reduction: C / reduction channels inside.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        width = _width(channels, reduction)
        timm = _timm('squeeze_excite')
        super().__init__(channels, timm.SqueezeExcite(channels, rd_channels=width, bias=False))


@MODELS.register_module()
class CBAM(_FromTimm):
    """Convolutional Block Attention Module (Woo et al. 2018, https://arxiv.org/abs/1807.06521).

    `y = x * sigmoid(MLP(mean(x)) + MLP(max(x)))`, without biases as in the formula (the authors'
    code has them), then `y * sigmoid(conv([mean(y), max(y)]))` over channels. Deviations: the width
    inside is at least 8; a BatchNorm follows the 7x7 convolution, as in the authors' code and not
    in the formula; where several values are the greatest, they share its gradient.

    Args:
        channels: C.
        reduction: C / reduction channels inside.
        kernel_size: of the convolution, odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size} must be odd')
        width = _width(channels, reduction)
        block = _timm('cbam').CbamModule(
            channels, rd_channels=width, spatial_kernel_size=kernel_size
        )
        super().__init__(channels, block)


@MODELS.register_module()
class GC(_FromTimm):
    """Global context block (Cao et al. 2019, https://arxiv.org/abs/1904.11492).

    `x + W2 relu(LayerNorm(W1 (x softmax_N(Wk x))))`, an exact identity at first; timm's default
    multiplies instead of adding. Deviations: the width inside is at least 8; LayerNorm's eps is
    1e-6 (authors: 1e-5). timm zeroes W2 and leaves its bias random; the authors zero both, and so
    does this.

    Args:
        channels: C.
        reduction: C / reduction channels inside.
        fuse: 'add', the paper's choice, or 'scale': `x * sigmoid(...)`, timm's.
    """

    def __init__(self, channels: int, reduction: int = 16, fuse: str = 'add') -> None:
        if fuse not in FUSES:
            hint = nearest(str(fuse), FUSES)
            raise ValueError(f"unknown fuse '{fuse}': {hint} (allowed: 'add', 'scale')")
        width, add = _width(channels, reduction), fuse == 'add'
        block = _timm('global_context').GlobalContext(
            channels, fuse_add=add, fuse_scale=not add, rd_channels=width
        )
        if add:
            nn.init.zeros_(block.mlp_add.fc2.bias)
        super().__init__(channels, block)


def _width(channels: int, reduction: int) -> int:
    if channels < 1 or reduction < 1:
        raise ValueError(f'channels={channels}, reduction={reduction}: both must be positive')
    return max(MIN_WIDTH, channels // reduction)


def _timm(module: str) -> Any:
    """A module of timm.layers, imported only by who builds a block of it."""
    try:
        return import_module(f'timm.layers.{module}')
    except ImportError as error:
        with config_path('') as path:
            raise ConfigError(
                f"{path}: this block is timm's, which cannot be imported ({error}): "
                "pip install 'psa-pose[rivals]'"
            ) from error
