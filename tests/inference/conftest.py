"""A model trained for an epoch, with averaged weights; images and videos."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from psa_pose import Inferencer
from psa_pose.engine.config import load_config
from psa_pose.engine.train import train
from tests.conftest import ROOT

CONFIG = ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def options(root: Path) -> list[str]:
    return [
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        'train_dataloader.batch_size=8',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=100',
        'trainer.num_sanity_val_steps=0',
        'trainer.enable_progress_bar=False',
        "custom_hooks=[dict(type='EMAHook', momentum=0.3)]",
        'model.test_cfg.flip_test=True',
    ]


@pytest.fixture(scope='session')
def config(demo_root: Path) -> Any:
    return load_config(CONFIG, options(demo_root))


@pytest.fixture(scope='session')
def checkpoint(config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config.work_dir = str(tmp_path_factory.mktemp('inference') / 'run')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        train(config)
    return Path(config.work_dir, 'checkpoints', 'last.ckpt')


@pytest.fixture(scope='session')
def inferencer(config: Any, checkpoint: Path) -> Inferencer:
    return Inferencer(config, checkpoint, device='cpu', batch_size=4)


@pytest.fixture(scope='session')
def images(demo_root: Path) -> list[Path]:
    return sorted((demo_root / 'images/val').iterdir())


@pytest.fixture(scope='session')
def annotations(demo_root: Path) -> Path:
    return demo_root / 'annotations/person_keypoints_val.json'


MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Frames of one grey each, brighter by one from one to the next."""

    def make(name: str = 'clip.avi', frames: int = 12, size: tuple[int, int] = (64, 48)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, size)
        for i in range(frames):
            writer.write(np.full((size[1], size[0], 3), i % 256, np.uint8))
        writer.release()
        return path

    return make
