"""What every codec is: sizes, the place of a pixel, encode and decode."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class HeatmapCodec(ABC):
    """Keypoints of a crop to heatmaps and back, batched torch on whatever device.

    A crop pixel x stands at x / stride in the heatmap; both count pixel centres from 0.

    Args:
        input_size: (width, height) of the crop in pixels.
        heatmap_size: (width, height) of the heatmap in pixels.

    Attributes:
        unbiased_affine: whether crops are to be cut out with sizes in intervals; see
            `psa_pose.datasets.transforms.image_to_crop`.
        shift_heatmap: whether a mirrored heatmap, mirrored back, is one pixel off; see
            `psa_pose.models.TopdownPoseEstimator`.
        channels_per_keypoint: of heatmaps; a keypoint's channels are neighbours.
    """

    unbiased_affine: ClassVar[bool] = False
    shift_heatmap: ClassVar[bool] = True
    channels_per_keypoint: int = 1

    def __init__(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> None:
        if min(*input_size, *heatmap_size) < 1:
            raise ValueError(
                f'sizes must be positive, got input_size={input_size}, heatmap_size={heatmap_size}'
            )
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = (int(heatmap_size[0]), int(heatmap_size[1]))

    @property
    def stride(self) -> tuple[float, float]:
        """Crop pixels in a heatmap pixel, in x and in y."""
        (width, height), (columns, rows) = self.input_size, self.heatmap_size
        return width / columns, height / rows

    @abstractmethod
    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of a batch.

        Args:
            keypoints: (B, K, 2) in crop pixels.
            visible: (B, K), 1 where labelled.

        Returns:
            Heatmaps (B, K * channels_per_keypoint, H, W), and weights (B, K): `visible`, and 0
            where no pixel of a keypoint's target lies inside the map.
        """

    @abstractmethod
    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of a batch.

        Args:
            heatmaps: (B, K * channels_per_keypoint, H, W), in any memory format.

        Returns:
            Keypoints (B, K, 2) in crop pixels and scores (B, K), the maxima. Where a map has
            nothing above 0 the keypoint is heatmap pixel (-1, -1), as in MMPose.
        """

    def mirror(self, heatmaps: Tensor, flip_indices: Tensor) -> Tensor:
        """Heatmaps of mirrored crops, for the crops as they were.

        Args:
            heatmaps: (B, K * channels_per_keypoint, H, W).
            flip_indices: (K,) int64, for each keypoint the index of its mirror image.
        """
        return heatmaps.flip(3)[:, flip_indices]

    def _on_heatmap(self, keypoints: Tensor) -> Tensor:
        """Heatmap pixels (B, K, 2) of crop pixels (B, K, 2)."""
        # Plain numbers all the way: a tensor made of them here would have to reach the device,
        # and the host would wait for it.
        (x, y), (across, down) = keypoints.unbind(-1), self.stride
        return torch.stack([x / across, y / down], -1)

    def _on_crop(self, points: Tensor, scores: Tensor) -> Tensor:
        """Crop pixels (B, K, 2) of heatmap pixels (B, K, 2); of (-1, -1) where not scores > 0."""
        found = torch.where((scores > 0).unsqueeze(-1), points, -1).to(scores.dtype)
        (x, y), (across, down) = found.unbind(-1), self.stride
        return torch.stack([x * across, y * down], -1)
