"""Which keypoints a model predicts: its dataset says it, or else its checkpoint."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from psa_pose.engine.build import keypoint_info
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.models.checkpoints.fetch import local_file
from psa_pose.models.checkpoints.formats import recognise
from psa_pose.models.checkpoints.read import read_checkpoint
from psa_pose.structures import COCO_KEYPOINTS, MPII_KEYPOINTS, KeypointInfo


def model_keypoints(cfg: Config, checkpoint: str | Path) -> KeypointInfo:
    """Keypoints of a config's dataset, or, where its files are not here, of the checkpoint.

    Raises:
        DataError: neither says them.
    """
    try:
        return keypoint_info(cfg)
    except (DataError, ConfigError) as error:
        info = checkpoint_keypoints(local_file(checkpoint))
        if info is None:
            raise DataError(
                f'which keypoints does {checkpoint} predict? It does not say, and the dataset of '
                f'the config does not either: {error}'
            ) from None
        return info


def checkpoint_keypoints(path: Path) -> KeypointInfo | None:
    """What a checkpoint says of its keypoints; older ones and other projects' say their names only.

    Names are then COCO's or MPII's, with their skeleton, or there is none.
    """
    weights = recognise(read_checkpoint(path), path)
    if not weights.keypoints:
        return None
    for known in (COCO_KEYPOINTS, MPII_KEYPOINTS):
        if known.names == weights.keypoints:
            return known
    category: dict[str, Any] = {'keypoints': list(weights.keypoints)}
    if skeleton := weights.meta.get('skeleton'):
        try:
            category['skeleton'] = [[a + 1, b + 1] for a, b in skeleton]  # COCO counts from 1
        except (TypeError, ValueError):
            raise CheckpointError(f'{path}: its skeleton is no pairs: {skeleton!r:.80}') from None
    if sigmas := weights.meta.get('sigmas'):
        category['sigmas'] = sigmas
    return KeypointInfo.from_category(category, str(path))
