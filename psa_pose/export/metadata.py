"""What a file says of itself, so that whoever runs it needs no config."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import psa_pose
from psa_pose.engine.build import section
from psa_pose.export.graph import PoseGraph
from psa_pose.inference.crops import Cropper


def describe(
    cfg: Config, graph: PoseGraph, checkpoint: Path, licence: str | None
) -> dict[str, Any]:
    """Plain values for JSON; sizes are (width, height), indices count from 0."""
    estimator = graph.estimator[0]
    codec, preprocessor, info = estimator.codec, estimator.data_preprocessor, estimator.info
    flip = info.flip_indices
    return {
        'keypoints': list(info.names),
        'skeleton': [list(bone) for bone in info.skeleton],
        'flip_pairs': [[i, j] for i, j in enumerate(flip) if i < j],
        'sigmas': list(info.sigmas),
        'input_size': list(codec.input_size),
        'heatmap_size': list(codec.heatmap_size),
        'normalised': graph.normalise,
        'decoded': graph.decode is not None,
        'flip_test': graph.flip_test,
        'mean': preprocessor.mean.flatten().tolist(),
        'std': preprocessor.std.flatten().tolist(),
        'codec': section(cfg, 'codec').to_dict(),
        'unbiased_affine': codec.unbiased_affine,
        'bbox_padding': Cropper(cfg, codec, info).padding,
        'config': Path(cfg.filename or '').name,
        'checkpoint': {
            'file': checkpoint.name,
            'sha256': hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        },
        'licence': licence,
        'versions': {
            'psa_pose': psa_pose.__version__,
            'torch': torch.__version__.partition('+')[0],
        },
    }
