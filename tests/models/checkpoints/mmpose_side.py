"""Run by a real MMPose's Python: makes checkpoints of its own, and loads those that we publish.

    python mmpose_side.py FOLDER

For each network `config_<name>.py` there: writes `theirs_<name>.pth`, as MMEngine's Runner would,
and the heatmaps of `image.npy` to `theirs_<name>.npy`; loads `ours_<name>.pth` and writes its
heatmaps to `ours_<name>.npy`. (`mmpose.apis` does not import in that environment.)
"""

import os
import sys
from pathlib import Path

os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'  # or MMEngine cannot load its own files

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import load_checkpoint, save_checkpoint
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules


@torch.no_grad()
def main(folder: Path) -> None:
    register_all_modules()  # makes 'mmpose' the default scope
    image = torch.from_numpy(np.load(folder / 'image.npy'))
    hub = MessageHub.get_instance('test')
    for value in (0.3, 0.2):
        hub.update_scalar('train/loss', value)
    meta = {
        'epoch': 1,
        'mmengine_version': '0.10.7',
        'dataset_meta': parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'}),
        'AP': np.float64(0.5),
        'cfg': Config({'a': 1}).pretty_text,
    }
    for path in folder.glob('config_*.py'):
        name = path.stem.partition('_')[2]
        torch.manual_seed(0)
        config = Config.fromfile(path)
        model = MODELS.build(config.model)
        model.train()
        for parameter in model.head.final_layer.parameters():
            parameter.normal_(std=0.1)
        for _ in range(3):  # BatchNorm's statistics are no longer 0 and 1
            model(torch.randn(4, 3, 64, 64), None, mode='tensor')
        optimizer = torch.optim.Adam(model.parameters())
        content = {'meta': meta, 'state_dict': model.state_dict()}
        content |= {'message_hub': hub.state_dict(), 'optimizer': optimizer.state_dict()}
        save_checkpoint(content, str(folder / f'theirs_{name}.pth'))
        np.save(folder / f'theirs_{name}.npy', model.eval()(image, None, mode='tensor'))
        model = MODELS.build(config.model)
        loaded = load_checkpoint(model, str(folder / f'ours_{name}.pth'), strict=True)
        assert loaded['meta']['dataset_meta'].keys() == meta['dataset_meta'].keys()
        np.save(folder / f'ours_{name}.npy', model.eval()(image, None, mode='tensor'))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
