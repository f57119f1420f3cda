"""The top-down estimator: pixels and keypoints in, a loss or keypoints out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from psa_pose.codecs import HeatmapCodec
from psa_pose.errors import ConfigError
from psa_pose.models.attention.polarize import no_autocast
from psa_pose.models.checkpoints import LoadReport
from psa_pose.registry import MODELS, known_keys
from psa_pose.structures import KeypointInfo, PoseBatch, PosePrediction


@MODELS.register_module()
class PoseDataPreprocessor(nn.Module):
    """uint8 crops to normalised floats, on the device.

    Args:
        mean: (3,) of RGB, on the scale 0 to 255; ImageNet's.
        std: (3,), likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: tuple[float, float, float] = (123.675, 116.28, 103.53),
        std: tuple[float, float, float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)
        self.memory_format = torch.channels_last

    def forward(self, crop: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, in `memory_format`."""
        # A row of pixels at a time: along three channels alone a CPU would take four times as long.
        width = crop.shape[2]
        mean, std = (x.flatten().repeat(width) for x in (self.mean, self.std))
        image = ((crop.flatten(2).float() - mean) / std).view(crop.shape)
        return image.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


@MODELS.register_module()
class TopdownPoseEstimator(nn.Module):
    """Backbone and head with the one codec that makes targets and reads heatmaps.

    Args:
        backbone: config; its module says `out_channels`.
        head: config; its width is the dataset's K times the codec's channels a keypoint.
        codec: makes targets and reads heatmaps; the top-level `codec` of a config file, built.
        info: the dataset's keypoints.
        data_preprocessor: config, or None for ImageNet's normalisation.
        test_cfg: `flip_test` averages with the mirrored crop; `shift_heatmap` moves the mirrored
            heatmap by the one pixel that a stride of 4 misaligns it (the field's habit), unless
            the codec does not need it.
    """

    flip_indices: Tensor

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        codec: HeatmapCodec,
        info: KeypointInfo,
        data_preprocessor: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        self.codec = codec
        self.flip_test, self.shift_heatmap = _read_test_cfg(test_cfg or {}, codec.shift_heatmap)
        self.data_preprocessor = MODELS.build(
            data_preprocessor or {'type': 'PoseDataPreprocessor'}, at='data_preprocessor'
        )
        self.backbone = MODELS.build(backbone, at='backbone')
        self.head = MODELS.build(
            head,
            at='head',
            in_channels=self.backbone.out_channels,
            out_channels=info.num_keypoints * codec.channels_per_keypoint,
        )
        self.register_buffer('flip_indices', torch.tensor(info.flip_indices), persistent=False)

    def init_weights(self) -> LoadReport | None:
        """Load what the backbone's `init_cfg` names; not needed to resume or to test."""
        start = getattr(self.backbone, 'init_weights', None)  # a user's own may have none
        return start() if start else None

    def use_channels_last(self, wanted: bool) -> 'TopdownPoseEstimator':
        """Lay weights and images out in memory as (B, H, W, C), or else as (B, C, H, W)."""
        layout = torch.channels_last if wanted else torch.contiguous_format
        self.data_preprocessor.memory_format = layout
        return self.to(memory_format=layout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Heatmaps (B, channels, H / 4, W / 4) of normalised images (B, 3, H, W)."""
        return self.head(self.backbone(inputs))

    def loss(self, batch: PoseBatch) -> Tensor:
        """The head's loss of a batch, a scalar; float32, as targets are, also under autocast."""
        with no_autocast(batch.crop):
            targets, weights = self.codec.encode(batch.keypoints, batch.visible)
        heatmaps = self(self.data_preprocessor(batch.crop))
        if heatmaps.shape != targets.shape:
            raise ConfigError(
                f'codec.heatmap_size: targets have shape {tuple(targets.shape)}, but the model '
                f'makes heatmaps of shape {tuple(heatmaps.shape)} (batch, channels, height, width)'
            )
        return self.head.loss(heatmaps, targets, weights)

    def heatmaps(self, batch: PoseBatch) -> Tensor:
        """Heatmaps of a batch (B, channels, H, W), float32; with `flip_test` both crops' mean."""
        if not self.flip_test:
            return self(self.data_preprocessor(batch.crop)).float()
        both = self.data_preprocessor(torch.cat([batch.crop, batch.crop.flip(2)]))
        return self.mean_of_both(*self(both).float().chunk(2))

    def mean_of_both(self, heatmaps: Tensor, flipped: Tensor) -> Tensor:
        """Of heatmaps of crops and of the mirrored crops (B, channels, H, W): the flip test."""
        flipped = self.codec.mirror(flipped, self.flip_indices)
        if self.shift_heatmap:
            flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], dim=-1)
        return (heatmaps + flipped) / 2

    def predict(self, batch: PoseBatch) -> PosePrediction:
        """Keypoints of a batch in image pixels, found and moved there in float32."""
        heatmaps = self.heatmaps(batch)
        with no_autocast(heatmaps):  # a product of coordinates in bfloat16 is pixels off
            keypoints, scores = self.codec.decode(heatmaps)
            linear, offset = batch.to_image[..., :2], batch.to_image[..., 2]
            # No matrix product, which is pixels off where the user lets those be TF32.
            moved = (keypoints.unsqueeze(2) * linear.unsqueeze(1)).sum(3) + offset.unsqueeze(1)
            return PosePrediction(moved, scores)


def _read_test_cfg(test_cfg: Mapping[str, Any], shift_heatmap: bool) -> tuple[bool, bool]:
    known = {'flip_test': True, 'shift_heatmap': shift_heatmap}
    options = {**known, **known_keys(test_cfg, known, 'test_cfg')}
    return options['flip_test'], options['shift_heatmap']
