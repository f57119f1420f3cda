"""Losses between predicted and target heatmaps."""

from torch import Tensor, nn

from psa_pose.errors import ConfigError
from psa_pose.registry import MODELS


@MODELS.register_module()
class KeypointMSELoss(nn.Module):
    """Mean squared error over all pixels of all keypoints; an unlabelled one contributes 0.

    As MMPose's: the mean runs over unlabelled keypoints too.

    Args:
        use_target_weight: whether a keypoint's weight counts.
        loss_weight: factor.
    """

    def __init__(self, use_target_weight: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.use_target_weight = use_target_weight
        self.loss_weight = loss_weight

    def forward(self, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            heatmaps: (B, K, H, W), predicted.
            targets: (B, K, H, W).
            weights: (B, K).

        Returns:
            A scalar, float32 also under autocast.
        """
        if heatmaps.shape[1] != weights.shape[1]:
            raise ConfigError(
                f'head.loss: KeypointMSELoss takes one heatmap a keypoint, got {heatmaps.shape[1]} '
                f'for {weights.shape[1]}; for heatmaps with offsets use '
                "loss=dict(type='CombinedTargetMSELoss')"
            )
        squared = (heatmaps.float() - targets).square().mean((2, 3))
        if self.use_target_weight:
            squared = squared * weights
        return squared.mean() * self.loss_weight


@MODELS.register_module()
class CombinedTargetMSELoss(nn.Module):
    """Mean squared error of disks, and of the offsets inside the target's disks.

    Of UDP with offsets (Huang et al. 2020). As MMPose's: half of each of the three means, over
    all pixels of all keypoints; a keypoint's weight goes in squared.

    Args:
        use_target_weight: whether a keypoint's weight counts.
        loss_weight: factor.
    """

    def __init__(self, use_target_weight: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.use_target_weight = use_target_weight
        self.loss_weight = loss_weight

    def forward(self, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            heatmaps: (B, 3K, H, W), predicted; a keypoint's disk, x and y are neighbours.
            targets: (B, 3K, H, W).
            weights: (B, K).

        Returns:
            A scalar, float32 also under autocast.
        """
        if heatmaps.shape[1] != 3 * weights.shape[1]:
            raise ConfigError(
                'head.loss: CombinedTargetMSELoss takes three heatmaps a keypoint, as '
                "UDPHeatmap(heatmap_type='combined') makes them, got "
                f'{heatmaps.shape[1]} for {weights.shape[1]}'
            )
        squared = (heatmaps.float() - targets).square().unflatten(1, (-1, 3))
        disk = targets.unflatten(1, (-1, 3))[:, :, 0]
        disk_error, *offset_errors = squared.unbind(2)
        error = (disk_error + disk.square() * sum(offset_errors)).mean((2, 3))
        if self.use_target_weight:
            error = error * weights.square()
        return 0.5 * error.mean() * self.loss_weight
