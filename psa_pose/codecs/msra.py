"""Gaussian heatmaps of Simple Baselines (Xiao et al. 2018) and of DARK (Zhang et al. 2020)."""

import math

import torch
from torch import Tensor

from psa_pose.codecs.base import HeatmapCodec
from psa_pose.codecs.blur import blur_kernel
from psa_pose.codecs.gaussian import gaussian_heatmaps, nearest_pixel
from psa_pose.codecs.maximum import maximum
from psa_pose.codecs.refine import log_window, newton_step
from psa_pose.registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class MSRAHeatmap(HeatmapCodec):
    """One Gaussian a keypoint.

    Centred on the nearest heatmap pixel and read by the maximum with a quarter shift (Xiao, Wu,
    Wei: Simple Baselines for Human Pose Estimation, 2018); or, `unbiased`, centred where the
    keypoint is and read by a Taylor expansion (Zhang et al.: Distribution-Aware Coordinate
    Representation for Human Pose Estimation, 2020).

    A crop pixel x stands at x * heatmap_size / input_size in the heatmap, as in the field's
    published weights.

    Args:
        input_size: (width, height) of the crop in pixels.
        heatmap_size: (width, height) of the heatmap in pixels.
        sigma: of the Gaussian, in heatmap pixels; a biased one is cut off at 3 sigma.
        unbiased: DARK.
        blur_kernel_size: of the Gaussian blur before the Taylor expansion, in heatmap pixels;
            11 belongs to sigma 2, 17 to sigma 3.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        sigma: float = 2.0,
        unbiased: bool = False,
        blur_kernel_size: int = 11,
    ) -> None:
        super().__init__(input_size, heatmap_size)
        if sigma <= 0:
            raise ValueError(f'sigma must be positive, got {sigma}')
        self.sigma = float(sigma)
        self.unbiased = unbiased
        self.kernel = blur_kernel(blur_kernel_size)

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Targets with values in [0, 1]; see `HeatmapCodec.encode`."""
        points = self._on_heatmap(keypoints)
        if self.unbiased:
            return gaussian_heatmaps(points, visible, self.heatmap_size, self.sigma)
        pixel = nearest_pixel(points)
        return gaussian_heatmaps(pixel, visible, self.heatmap_size, self.sigma, cut=pixel)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints and scores; see `HeatmapCodec.decode`."""
        heatmaps = heatmaps.contiguous()
        pixel, scores = maximum(heatmaps)
        step = self._taylor_step if self.unbiased else self._quarter_shift
        return self._on_crop(pixel + step(heatmaps, pixel, scores), scores), scores

    def _taylor_step(self, heatmaps: Tensor, pixel: Tensor, scores: Tensor) -> Tensor:
        """DARK: mu = m - D''(m)^-1 D'(m), with D the logarithm of the blurred heatmap at its
        maximum m (the paper's equation 9); none within two pixels of the border.
        """
        height, width = heatmaps.shape[2:]
        log = log_window(heatmaps, self.kernel, pixel, 2, scores, low=1e-10)
        step = newton_step(
            dx=(log[..., 2, 3] - log[..., 2, 1]) / 2,
            dy=(log[..., 3, 2] - log[..., 1, 2]) / 2,
            dxx=(log[..., 2, 4] - 2 * log[..., 2, 2] + log[..., 2, 0]) / 4,
            dyy=(log[..., 4, 2] - 2 * log[..., 2, 2] + log[..., 0, 2]) / 4,
            dxy=(log[..., 3, 3] - log[..., 1, 3] - log[..., 3, 1] + log[..., 1, 1]) / 4,
        )
        x, y = pixel.unbind(-1)
        inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
        return torch.where(inside.unsqueeze(-1), step, 0)

    def _quarter_shift(self, heatmaps: Tensor, pixel: Tensor, scores: Tensor) -> Tensor:
        """A quarter pixel towards the higher of the maximum's neighbours.

        A maximum in the last row or column has no outer neighbour: there a Gaussian of the
        codec's sigma says whether the peak lies beyond the map, where the encoder puts the
        keypoints of the crop's last pixels; it is moved half a pixel then.
        """
        height, width = heatmaps.shape[2:]
        x, y = pixel.unbind(-1)
        left, right = (x - 1).clamp_min(0), (x + 1).clamp_max(width - 1)
        above, below = (y - 1).clamp_min(0), (y + 1).clamp_max(height - 1)
        columns, rows = torch.stack([left, x, right, x], -1), torch.stack([y, above, y, below], -1)
        ends = heatmaps.flatten(2).gather(2, rows * width + columns)
        before, after = ends.chunk(2, -1)  # in x and in y
        last = torch.stack([x == width - 1, y == height - 1], -1)
        # None at 1 and along a first row or column: the field's published numbers have it so.
        inner = (pixel > 1) & ~last & (pixel.flip(-1) > 0)
        peak = scores.unsqueeze(-1)
        beyond = last & (before > 0) & (peak > before * self._border_ratio)
        return 0.25 * torch.sign(after - before) * inner + 0.5 * beyond

    @property
    def _border_ratio(self) -> float:
        """g(last) / g(last - 1) of a Gaussian centred half a pixel beyond `last`."""
        return math.exp((1.5**2 - 0.5**2) / (2 * self.sigma**2))
