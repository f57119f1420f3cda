"""Gaussian heatmaps as of Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation (2018)."""

import math

import torch
from torch import Tensor

from psa_pose.registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class MSRAHeatmap:
    """One Gaussian a keypoint, centred on the nearest heatmap pixel; argmax with a quarter shift.

    A crop pixel x stands at x * heatmap_size / input_size in the heatmap, as in the field's
    published weights.

    Args:
        input_size: (width, height) of the crop in pixels.
        heatmap_size: (width, height) of the heatmap in pixels.
        sigma: of the Gaussian, in heatmap pixels; it is cut off at 3 sigma.
    """

    def __init__(
        self, input_size: tuple[int, int], heatmap_size: tuple[int, int], sigma: float = 2.0
    ) -> None:
        if min(*input_size, *heatmap_size) < 1 or sigma <= 0:
            raise ValueError(
                f'sizes and sigma must be positive, got input_size={input_size}, '
                f'heatmap_size={heatmap_size}, sigma={sigma}'
            )
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = (int(heatmap_size[0]), int(heatmap_size[1]))
        self.sigma = float(sigma)

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of a batch.

        Args:
            keypoints: (B, K, 2) in crop pixels.
            visible: (B, K), 1 where labelled.

        Returns:
            Heatmaps (B, K, H, W) with values in [0, 1], and weights (B, K): `visible`, and 0
            where no pixel of a keypoint's Gaussian lies inside the map.
        """
        width, height = self.heatmap_size
        radius = self.sigma * 3
        centre = torch.floor(keypoints / self._stride(keypoints) + 0.5)
        size = centre.new_tensor([width, height])
        reaches = ((centre >= -radius) & (centre <= size - 1 + radius)).all(-1)
        weights = visible * reaches
        columns = self._gaussian(centre[..., 0], width, radius)
        rows = self._gaussian(centre[..., 1], height, radius)
        # A Gaussian is separable: two short vectors and one product instead of K x H x W exponents.
        rows = rows * (weights > 0).unsqueeze(-1)
        return rows.unsqueeze(-1) * columns.unsqueeze(-2), weights

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of a batch.

        The maximum is moved a quarter pixel towards the higher of its neighbours. A maximum in
        the last row or column has no outer neighbour: there a Gaussian of the codec's sigma
        says whether the peak lies beyond the map, where the encoder puts the keypoints of the
        crop's last pixels; it is moved half a pixel then.

        Args:
            heatmaps: (B, K, H, W).

        Returns:
            Keypoints (B, K, 2) in crop pixels and scores (B, K), the maxima.
        """
        height, width = heatmaps.shape[2:]
        scores, index = heatmaps.flatten(2).max(-1)
        x, y = index % width, torch.div(index, width, rounding_mode='floor')
        row = heatmaps.gather(2, y[..., None, None].expand(-1, -1, 1, width)).squeeze(2)
        column = heatmaps.gather(3, x[..., None, None].expand(-1, -1, height, 1)).squeeze(3)
        shift = torch.stack([self._shift(row, x, y, scores), self._shift(column, y, x, scores)], -1)
        keypoints = torch.stack([x, y], -1) + shift
        return keypoints.to(heatmaps.dtype) * self._stride(heatmaps), scores

    def _shift(self, line: Tensor, at: Tensor, across: Tensor, peak: Tensor) -> Tensor:
        """Quarter-pixel shift along one axis.

        Args:
            line: (B, K, L), the heatmap's values along the axis through the maximum.
            at: (B, K), where on the line the maximum is.
            across: (B, K), its place on the other axis.
            peak: (B, K), the maximum.
        """
        last = line.shape[-1] - 1
        before = line.gather(-1, (at - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        after = line.gather(-1, (at + 1).clamp(max=last).unsqueeze(-1)).squeeze(-1)
        # No shift at 1 and along a first row or column: the field's published numbers have it so.
        inner = torch.sign(after - before) * ((at > 1) & (at < last) & (across > 0))
        beyond = (at == last) & (before > 0) & (peak > before * self._border_ratio)
        return 0.25 * inner + 0.5 * beyond

    @property
    def _border_ratio(self) -> float:
        """g(last) / g(last - 1) of a Gaussian centred half a pixel beyond `last`."""
        return math.exp((1.5**2 - 0.5**2) / (2 * self.sigma**2))

    def _stride(self, like: Tensor) -> Tensor:
        ratio = [i / h for i, h in zip(self.input_size, self.heatmap_size, strict=True)]
        return torch.tensor(ratio, dtype=like.dtype, device=like.device)

    def _gaussian(self, centre: Tensor, length: int, radius: float) -> Tensor:
        offset = torch.arange(length, dtype=centre.dtype, device=centre.device) - centre.unsqueeze(
            -1
        )
        return torch.exp(-(offset**2) / (2 * self.sigma**2)) * (offset.abs() <= radius)
