"""MPII through the tools: configs build, a step on real images, numbers and result files."""

import json

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from psa_pose.engine.build import build_model
from psa_pose.engine.config import load_config
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / 'configs/mpii').glob('*.py'))
TINY = [
    'model.backbone.arch=tiny',
    'codec.input_size=(64,64)',
    'codec.heatmap_size=(16,16)',
    'train_dataloader.batch_size=2',
    'val_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'default_hooks.logger.interval=1',
]


@pytest.fixture
def options(shared_data):
    root = shared_data / 'mpii'
    return [
        '--cfg-options',
        *TINY,
        'val_evaluator.gt_file=annotations/mpii_val_predictions_nyu.mat',
        *(
            f'{split}_dataloader.dataset.{key}={value}'
            for split in ('train', 'val')
            for key, value in (('data_root', root), ('ann_file', 'annotations/mpii_five.json'))
        ),
    ]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_a_config_needs_no_file_to_be_built(path):
    model = build_model(path)
    assert model.info.num_keypoints == 16
    assert model.codec.input_size == (256, 256)


def test_train_evaluate_and_write_results(tmp_path, run_tool, options):
    config, work = 'configs/mpii/hrnet_w32_psa_p_256x256.py', tmp_path / 'work'
    done = run_tool('train', config, '--work-dir', work, *options)
    assert done.returncode == 0, done.stderr
    assert "boxes: MPII's center and scale" in done.stdout
    assert 'epoch 1: PCKh' in done.stdout
    assert 'right_ankle' in done.stdout
    names = [path.name for path in (work / 'checkpoints').iterdir()]
    assert any(name.startswith('best_epoch=1_PCKh=') for name in names), names

    results, metrics = tmp_path / 'pred.mat', tmp_path / 'metrics.json'
    last = work / 'checkpoints/last.ckpt'
    files = ['--out', results, '--metrics', metrics, '--show-dir', tmp_path / 'pictures']
    done = run_tool('test', config, last, '--work-dir', work, *files, *options)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(metrics.read_text())
    assert 0 <= numbers['PCKh'] <= 100
    assert f'{numbers["PCKh"]:.2f}' in done.stdout
    preds = loadmat(results)['preds']
    assert preds.shape == (5, 16, 2)
    assert np.isfinite(preds).all()
    assert len(list((tmp_path / 'pictures').glob('*.jpg'))) == 5


def test_dry_run(tmp_path, run_tool, options):
    config = 'configs/mpii/simplebaseline_r50_256x256.py'
    options = [option for option in options if 'arch=tiny' not in option]
    done = run_tool('train', config, '--dry-run', '--work-dir', tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert 'all is well' in done.stdout


def test_without_the_ground_truth_file(tmp_path, run_tool, options):
    options = [option for option in options if 'gt_file' not in option]
    options.append('val_evaluator.gt_file=None')
    config = 'configs/mpii/hrnet_w32_256x256.py'
    done = run_tool('train', config, '--dry-run', '--work-dir', tmp_path, *options)
    assert done.returncode == 1
    assert "5 of 5 persons have no 'headbox'" in done.stderr
    assert 'Traceback' not in done.stderr


def test_test_images_give_predictions_alone(tmp_path, run_tool, shared_data, options):
    root = shared_data / 'mpii'
    content = json.loads((root / 'annotations/mpii_five.json').read_text())
    bare = [{key: entry[key] for key in ('image', 'center', 'scale')} for entry in content]
    (tmp_path / 'mpii_test.json').write_text(json.dumps(bare))
    config = 'configs/mpii/hrnet_w32_256x256.py'
    model = build_model(load_config(config, options[1:]))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    options = [option for option in options if 'gt_file' not in option]
    options += ['val_evaluator.gt_file=None']
    options += [f'val_dataloader.dataset.ann_file={tmp_path}/mpii_test.json']
    arguments = [config, tmp_path / 'weights.pth', '--out', tmp_path / 'pred.mat', *options]
    done = run_tool('test', *arguments)
    assert done.returncode == 0, done.stderr
    assert loadmat(tmp_path / 'pred.mat')['preds'].shape == (5, 16, 2)
    assert 'PCKh' not in done.stdout
