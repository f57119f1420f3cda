"""Ask a real MMPose, and write down what it says; see test_against_mmpose.py.

    ~/.cache/psa-pose/peer/bin/python tests/codecs/make_reference.py

Made with MMPose 1.1.0, NumPy 1.26.4 and OpenCV 4.11.0; ../shared/peer builds that environment.
"""

from pathlib import Path

import codec_reference as reference
import numpy as np
import torch
from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from mmpose.models.losses.heatmap_loss import CombinedTargetMSELoss
from mmpose.models.utils.tta import flip_heatmaps
from mmpose.structures.bbox import get_udp_warp_matrix, get_warp_matrix


def codec(name: str, setup: reference.Setup) -> MSRAHeatmap | UDPHeatmap:
    sizes = {'input_size': setup.input_size, 'heatmap_size': setup.heatmap_size}
    blur = {'sigma': setup.sigma, 'blur_kernel_size': setup.kernel}
    if name in ('msra', 'dark'):
        return MSRAHeatmap(**sizes, **blur, unbiased=name == 'dark')
    kind = 'combined' if name == 'udp_combined' else 'gaussian'
    return UDPHeatmap(**sizes, **blur, heatmap_type=kind)


def main() -> None:
    numbers = {}
    for setup_name, setup in reference.SETUPS.items():
        for name in reference.CODECS:
            mmpose = codec(name, setup)
            for kind in reference.KINDS:
                maps = reference.heatmaps(kind, setup, 3 if name == 'udp_combined' else 1)
                try:
                    points, scores = zip(*map(mmpose.decode, maps), strict=True)
                except np.linalg.LinAlgError:
                    continue  # UDP's Hessian where a map has no maximum
                numbers[f'decode/{setup_name}/{name}/{kind}'] = np.concatenate(
                    [np.concatenate(points), np.concatenate(scores)[..., None]], -1
                ).astype(np.float32)
    setup = reference.SETUPS['uneven']
    points, visible = reference.keypoints(setup)
    for name in reference.CODECS:
        encoded = [
            codec(name, setup).encode(p[None], v[None])
            for p, v in zip(points, visible, strict=True)
        ]
        numbers[f'encode/{name}'] = np.stack([e['heatmaps'] for e in encoded])
        numbers[f'weights/{name}'] = np.concatenate([e['keypoint_weights'] for e in encoded])
    for warp in (get_warp_matrix, get_udp_warp_matrix):
        matrices = [warp(*box, (192, 256)) for box in reference.boxes()]
        numbers[f'affine/{warp.__name__}'] = np.stack(matrices)
    predicted, target, weights = map(torch.from_numpy, reference.loss_input())
    for weighted in (False, True):
        loss = CombinedTargetMSELoss(use_target_weight=weighted)(predicted, target, weights)
        numbers[f'loss/{weighted}'] = loss.numpy()
    flipped = flip_heatmaps(
        predicted, list(range(reference.K))[::-1], 'udp_combined', shift_heatmap=False
    )
    numbers['flip'] = flipped.numpy()
    np.savez_compressed(Path(__file__).with_name(reference.FILE), **numbers)


if __name__ == '__main__':
    main()
