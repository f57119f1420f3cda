"""Write mmpose_nms.npz: what MMPose 1.3's suppression keeps of made crowds.

Run once, where MMPose is installed; PSA-Pose itself never needs it:

    python tests/evaluation/reference/make_mmpose_nms.py
"""

from pathlib import Path

import numpy as np
from mmpose.evaluation.functional.nms import oks_nms, soft_oks_nms

SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
) / 1000  # fmt: skip
COUNTS = (1, 2, 7, 24, 40)
THRESHOLDS = (0.3, 0.9)


def main() -> None:
    """Five images; in each, predictions that are variations of a few poses."""
    rng = np.random.default_rng(0)
    arrays = {'image': np.repeat(np.arange(len(COUNTS)), COUNTS)}
    poses, scores, areas, kept = [], [], [], {}
    for count in COUNTS:
        few = rng.uniform(0, 200, (max(1, count // 4), 17, 2))
        pose = few[rng.integers(0, len(few), count)] + rng.normal(0, 3, (count, 1, 2))
        poses.append((pose + rng.normal(0, 2, pose.shape)).astype(np.float32))
        scores.append(rng.random(count).astype(np.float32))
        areas.append(rng.uniform(4000, 40000, count).astype(np.float32))
        persons = [
            {'keypoints': np.concatenate([k, np.ones((17, 1))], 1), 'score': s, 'area': a}
            for k, s, a in zip(poses[-1], scores[-1], areas[-1], strict=True)
        ]
        before = sum(len(part) for part in poses[:-1])
        for threshold in THRESHOLDS:
            for name, nms in (('oks_nms', oks_nms), ('soft_oks_nms', soft_oks_nms)):
                found = nms(persons, threshold, sigmas=SIGMAS) + before
                kept.setdefault(f'{name} {threshold}', []).append(found)
    arrays |= {name: np.concatenate(parts) for name, parts in kept.items()}
    np.savez_compressed(
        Path(__file__).parent / 'mmpose_nms.npz',
        keypoints=np.concatenate(poses),
        score=np.concatenate(scores),
        area=np.concatenate(areas),
        **arrays,
    )
    print({name: len(array) for name, array in arrays.items()})


if __name__ == '__main__':
    main()
