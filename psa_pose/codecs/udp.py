"""Unbiased data processing (Huang et al. 2020): sizes counted in intervals between pixels."""

import torch
from torch import Tensor

from psa_pose.codecs.base import HeatmapCodec
from psa_pose.codecs.blur import blur_kernel
from psa_pose.codecs.blurred_maximum import blurred_maximum
from psa_pose.codecs.gaussian import gaussian_heatmaps, nearest_pixel, offsets
from psa_pose.codecs.maximum import maximum
from psa_pose.codecs.refine import log_window, newton_step
from psa_pose.registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class UDPHeatmap(HeatmapCodec):
    """Heatmaps whose first and last pixels lie on those of the crop.

    Huang et al.: The Devil Is in the Details: Delving into Unbiased Data Processing for Human
    Pose Estimation (2020). A crop pixel x stands at x * (heatmap_size - 1) / (input_size - 1) in
    the heatmap, so that mirroring keeps pixels on pixels and the flip test needs no shift.

    Args:
        input_size: (width, height) of the crop in pixels.
        heatmap_size: (width, height) of the heatmap in pixels.
        heatmap_type: 'gaussian', one map a keypoint, read by a Taylor expansion; or 'combined',
            three: a disk, and the offsets in x and in y to the keypoint in units of its radius.
        sigma: of the Gaussian, in heatmap pixels; it is cut off at 3 sigma.
        radius_factor: radius of the disk over the longer side of the heatmap.
        blur_kernel_size: of the Gaussian blur before the Taylor expansion, in heatmap pixels; the
            disks are blurred by twice as much and 1.
    """

    unbiased_affine = True
    shift_heatmap = False

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        heatmap_type: str = 'gaussian',
        sigma: float = 2.0,
        radius_factor: float = 0.0546875,
        blur_kernel_size: int = 11,
    ) -> None:
        super().__init__(input_size, heatmap_size)
        if min(*self.input_size, *self.heatmap_size) < 2:
            raise ValueError(
                'UDP counts the intervals between pixels, so sizes must be at least 2, got '
                f'input_size={input_size}, heatmap_size={heatmap_size}'
            )
        if sigma <= 0 or radius_factor <= 0:
            raise ValueError(
                f'sigma and radius_factor must be positive, got {sigma} and {radius_factor}'
            )
        if heatmap_type not in ('gaussian', 'combined'):
            raise ValueError(f"heatmap_type must be 'gaussian' or 'combined', got '{heatmap_type}'")
        self.combined = heatmap_type == 'combined'
        self.channels_per_keypoint = 3 if self.combined else 1
        self.sigma = float(sigma)
        self.radius = radius_factor * max(self.heatmap_size)
        self.kernel = blur_kernel(2 * blur_kernel_size + 1 if self.combined else blur_kernel_size)

    @property
    def stride(self) -> tuple[float, float]:
        """Crop pixels in a heatmap pixel, in x and in y."""
        (width, height), (columns, rows) = self.input_size, self.heatmap_size
        return (width - 1) / (columns - 1), (height - 1) / (rows - 1)

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Targets, see `HeatmapCodec.encode`.

        Of 'combined' a keypoint's maps are disk, x and y, and weights are `visible` itself, as in
        MMPose: an empty disk is learnt where the keypoint lies outside.
        """
        points = self._on_heatmap(keypoints)
        if self.combined:
            return self._disks_and_offsets(points, visible), visible.clone()
        cut = nearest_pixel(points)
        return gaussian_heatmaps(points, visible, self.heatmap_size, self.sigma, cut)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints and scores, which of 'combined' are maxima of the blurred disks.

        See `HeatmapCodec.decode`.
        """
        heatmaps = heatmaps.contiguous()
        if self.combined:
            maps = heatmaps.unflatten(1, (-1, 3))
            pixel, scores = blurred_maximum(maps[:, :, 0], self.kernel)
            step = self._offsets_at(maps, pixel)
        else:
            pixel, scores = maximum(heatmaps)
            step = self._taylor_step(heatmaps, pixel, scores)
        return self._on_crop(pixel + step, scores), scores

    def mirror(self, heatmaps: Tensor, flip_indices: Tensor) -> Tensor:
        """As `HeatmapCodec.mirror`; offsets in x change their sign."""
        if not self.combined:
            return super().mirror(heatmaps, flip_indices)
        disk, x, y = heatmaps.flip(3).unflatten(1, (-1, 3))[:, flip_indices].unbind(2)
        return torch.stack([disk, -x, y], 2).flatten(1, 2)

    def _taylor_step(self, heatmaps: Tensor, pixel: Tensor, scores: Tensor) -> Tensor:
        """As DARK's, but from the maximum's direct neighbours, so that it reaches the border."""
        log = log_window(heatmaps, self.kernel, pixel, 1, scores, low=1e-3, high=50.0)
        (a, b, _), (c, d, e), (_, f, g) = (row.unbind(-1) for row in log.unbind(-2))
        # Added to the Hessian's diagonal: a flat map has a peak nowhere else.
        eps = torch.finfo(torch.float32).eps
        return newton_step(
            dx=(e - c) / 2,
            dy=(f - b) / 2,
            dxx=e - 2 * d + c + eps,
            dyy=f - 2 * d + b + eps,
            dxy=(g - e - f + 2 * d - c - b + a) / 2,
        )

    def _disks_and_offsets(self, points: Tensor, visible: Tensor) -> Tensor:
        """(B, 3K, H, W); 0 throughout where a keypoint is not labelled."""
        width, height = self.heatmap_size
        labelled = (visible > 0).unsqueeze(-1)
        dx = offsets(points[..., 0], width) * labelled
        dy = offsets(points[..., 1], height) * labelled
        left = torch.where(labelled, self.radius**2 - dy.square(), -1)  # of the radius, for dx
        maps = points.new_empty(*visible.shape, 3, height, width)
        disk, x, y = maps.unbind(2)
        # In place and in one pass: what this costs is memory written.
        across, down = dx.square().unsqueeze(-2), left.unsqueeze(-1)
        if torch.compiler.is_compiling():  # which takes no `out` within another tensor
            disk.copy_(across <= down)
        else:
            torch.le(across, down, out=disk)
        x.copy_((dx / self.radius).unsqueeze(-2))
        y.copy_((dy / self.radius).unsqueeze(-1))
        return maps.flatten(1, 2)

    def _offsets_at(self, maps: Tensor, pixel: Tensor) -> Tensor:
        """(B, K, 2) in heatmap pixels, out of maps (B, K, 3, H, W) at one pixel of each."""
        index = (pixel[..., 1] * maps.shape[-1] + pixel[..., 0])[..., None, None]
        return maps[:, :, 1:].flatten(3).gather(3, index.expand(-1, -1, 2, 1))[..., 0] * self.radius
