"""Run by MMPose's Python: heatmaps of crops by a config's model, with a checkpoint's weights.

usage: heatmaps.py CONFIG CHECKPOINT|'' CROPS.npy OUT.npy      (crops: RGB, uint8, (B, H, W, 3))
"""

import sys

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules

config, checkpoint, crops, out = sys.argv[1:]
cfg = Config.fromfile(config)
register_all_modules()
model = MODELS.build(cfg.model).eval()
if checkpoint:
    meta = load_checkpoint(model, checkpoint, 'cpu', strict=True)['meta']['dataset_meta']
    print('keypoints:', *(meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])))
images = list(torch.from_numpy(np.load(crops)).permute(0, 3, 1, 2).flip(1))  # BGR, as MMPose reads
inputs = model.data_preprocessor({'inputs': images, 'data_samples': None})['inputs']
with torch.inference_mode():
    np.save(out, model(inputs, None, mode='tensor').numpy())
