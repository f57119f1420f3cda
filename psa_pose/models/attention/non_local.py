"""Non-local block (Wang, Girshick, Gupta, He 2018, https://arxiv.org/abs/1711.07971), in 2D.

The embedded-Gaussian form, figure 2: `x + BN(Wz softmax(theta(x)^T phi(x)) g(x))`, C/2 channels
inside, the BatchNorm's weight zero at first, so that it starts as the identity.

timm has one (`NonLocalAttn`), which tests compare with this; it keeps an N x N matrix for each
image and block, 38 MB at 64x48 pixels in float32, where fused attention keeps none. Deviations:
logits are divided by sqrt(C/2), as in the authors' code and not in the formula (timm: by sqrt(C));
the 1x1 convolutions have no bias, as in the formula and not in that code; no subsampling.
"""

from torch import Tensor, nn

from psa_pose.models.attention.pixels import attend, check_map, to_map, to_rows
from psa_pose.registry import MODELS


@MODELS.register_module()
class NonLocal(nn.Module):
    """B x C x H x W -> the same shape, dtype and memory format.

    Args:
        channels: C.
        reduction: C / reduction channels inside, at least 1.

    Raises:
        ValueError: arguments that do not fit; an input that is not B x C x H x W or has no pixel.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f'channels={channels}, reduction={reduction}: both must be positive')
        inside = max(1, channels // reduction)
        self.channels = channels
        self.theta = nn.Linear(channels, inside, bias=False)
        self.phi = nn.Linear(channels, inside, bias=False)
        self.g = nn.Linear(channels, inside, bias=False)
        self.z = nn.Linear(inside, channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        check_map(x, self.channels, 'NonLocal')
        rows = to_rows(x)
        y = self.z(attend(self.theta(rows), self.phi(rows), self.g(rows)))
        return x + self.norm(to_map(y, like=x))
