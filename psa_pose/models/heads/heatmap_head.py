"""The heatmap head of SimpleBaseline (Xiao et al. 2018) and HRNet (Sun et al. 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from psa_pose.registry import MODELS


@MODELS.register_module()
class HeatmapHead(nn.Module):
    """Transposed convolutions, each twice the resolution, and one 1x1 convolution a heatmap.

    Args:
        in_channels: of the features; given by the backbone.
        out_channels: K, times three with offsets; given by dataset and codec.
        deconv_out_channels: of each transposed 4x4 convolution; empty for HRNet.
        loss: config of the loss.

    Shapes:
        (B, in_channels, H, W), or a tuple of maps, of which the last is read, as in MMPose
        -> (B, out_channels, H * 2**D, W * 2**D), D transposed convolutions
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        deconv_out_channels: Sequence[int] = (256, 256, 256),
        loss: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in deconv_out_channels:
            deconv = nn.ConvTranspose2d(in_channels, width, 4, 2, 1, bias=False)
            nn.init.normal_(deconv.weight, std=0.001)
            layers += [deconv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            in_channels = width
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(in_channels, out_channels, 1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]
        self.loss = MODELS.build(loss or {'type': 'KeypointMSELoss'}, at='loss')

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        x = features if isinstance(features, Tensor) else features[-1]
        return self.final_layer(self.deconv_layers(x))
