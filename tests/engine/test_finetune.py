"""Fine-tuning beats training from scratch at equal steps, on keypoints that differ."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psa_pose.datasets.synthetic import render_dataset
from psa_pose.engine.config import load_config
from psa_pose.engine.train import train
from psa_pose.models.checkpoints.keypoints import normal_name
from tests.conftest import ROOT
from tests.engine.conftest import CONFIG

pytestmark = pytest.mark.slow

FINETUNE = ROOT / 'configs/lspet/finetune_hrnet_tiny_psa_p_128x96.py'
LEFT_OUT = ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear')
Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('finetune')


def train_at(work_dir: Path, config: Path, root: Path, *options: str) -> dict[str, Any]:
    """The last evaluation's numbers."""
    import torch

    cfg = load_config(
        config,
        [
            f'train_dataloader.dataset.data_root={root}',
            f'val_dataloader.dataset.data_root={root}',
            'train_dataloader.batch_size=16',
            'train_dataloader.num_workers=0',
            'val_dataloader.num_workers=0',
            "val_evaluator=dict(_delete_=True, type='PCKAccuracy', thr=0.2)",
            'default_hooks.checkpoint.save_best=PCK',
            'train_cfg.val_interval=100',
            'trainer.num_sanity_val_steps=0',
            'trainer.limit_val_batches=4',
            'trainer.enable_progress_bar=False',
            *options,
        ],
    )
    cfg.work_dir = str(work_dir)
    return torch.load(train(cfg), weights_only=True)['meta']['metrics']


@pytest.fixture(scope='module')
def checkpoint(folder: Path) -> Path:
    """A demo of seconds: 17 keypoints of rendered people."""
    root = folder / 'rendered'
    render_dataset(root, 'train', 96, seed=5)
    render_dataset(root, 'val', 8, seed=5)
    train_at(folder / 'pretrained', CONFIG, root, 'train_cfg.max_epochs=10')
    return folder / 'pretrained/checkpoints/last.ckpt'


def both(folder: Path, checkpoint: Path, config: Path, root: Path, *options: str) -> list[float]:
    """PCK of a fine-tuned network and of one from scratch: same steps, order and augmentation."""
    scores = []
    for name, load_from in (('tuned', checkpoint), ('scratch', None)):
        numbers = train_at(folder / name, config, root, f'load_from={load_from}', *options)
        scores.append(numbers['PCK'])
    return scores


def test_on_other_keypoints_of_other_rendered_people(checkpoint: Path, tmp_path: Path) -> None:
    root = tmp_path / 'other'
    for part, images in (('train', 48), ('val', 24)):
        render_dataset(root, part, images, seed=9)
        path = root / f'annotations/person_keypoints_{part}.json'
        path.write_text(json.dumps(_other_keypoints(json.loads(path.read_text()))))
    tuned, scratch = both(tmp_path, checkpoint, CONFIG, root, 'train_cfg.max_epochs=5')
    assert tuned > 2 * scratch


def test_on_photographs_of_athletes(checkpoint: Path, shared_data: Path, tmp_path: Path) -> None:
    options = ['trainer.limit_train_batches=60', 'train_cfg.max_epochs=1']
    tuned, scratch = both(tmp_path, checkpoint, FINETUNE, shared_data / 'lspet', *options)
    assert tuned > 1.1 * scratch


def _other_keypoints(content: dict[str, Any]) -> dict[str, Any]:
    """The 12 of the limbs, right before left and spelt otherwise, and a neck: K is 13."""
    (category,) = content['categories']
    names = category['keypoints']
    kept = sorted((i for i, n in enumerate(names) if n not in LEFT_OUT), key=lambda i: -i)
    shoulders = [names.index('left_shoulder'), names.index('right_shoulder')]
    for annotation in content['annotations']:
        flat = annotation['keypoints']
        points = [flat[3 * i : 3 * i + 3] for i in range(len(names))]
        a, b = (points[i] for i in shoulders)
        neck = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, min(a[2], b[2])]
        annotation['keypoints'] = [v for p in [*(points[i] for i in kept), neck] for v in p]
    category['keypoints'] = ['-'.join(reversed(normal_name(names[i]))) for i in kept] + ['neck']
    category['skeleton'] = []
    category.pop('sigmas', None)
    return content
