"""Losses between predicted and target heatmaps."""

from torch import Tensor, nn

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
        squared = (heatmaps.float() - targets).square().mean((2, 3))
        if self.use_target_weight:
            squared = squared * weights
        return squared.mean() * self.loss_weight
