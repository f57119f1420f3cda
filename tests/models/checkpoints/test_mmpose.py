"""Weights go to a real MMPose and come from one: the same heatmaps on both sides."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.codecs import MSRAHeatmap
from psa_pose.engine.publish import publish
from psa_pose.models import TopdownPoseEstimator
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.structures import COCO_KEYPOINTS
from tests.models.checkpoints.networks import moved

PEER = Path('~/.cache/psa-pose/peer/bin/python').expanduser()
EXTRA = {
    f'stage{i}': {
        'num_modules': 1,
        'num_branches': i,
        'block': 'BOTTLENECK' if i == 1 else 'BASIC',
        'num_blocks': (1,) * i,
        'num_channels': (64,) if i == 1 else tuple(16 * 2**b for b in range(i)),
    }
    for i in range(1, 5)
}
BACKBONES = {'hrnet': {'type': 'HRNet', 'extra': EXTRA}, 'resnet': {'type': 'ResNet', 'depth': 18}}
HEADS = {'hrnet': (), 'resnet': (32, 32, 32)}
WIDTHS = {'hrnet': 16, 'resnet': 512}


def ours(name: str) -> TopdownPoseEstimator:
    return TopdownPoseEstimator(
        backbone=BACKBONES[name],
        head={'type': 'HeatmapHead', 'deconv_out_channels': HEADS[name]},
        codec=MSRAHeatmap((64, 64), (16, 16)),
        info=COCO_KEYPOINTS,
    )


def mmpose_config(name: str) -> str:
    codec = {'type': 'MSRAHeatmap', 'input_size': (64, 64), 'heatmap_size': (16, 16), 'sigma': 2}
    head = {
        'type': 'HeatmapHead',
        'in_channels': WIDTHS[name],
        'out_channels': 17,
        'deconv_out_channels': HEADS[name] or None,
        'deconv_kernel_sizes': (4,) * len(HEADS[name]) or None,
        'loss': {'type': 'KeypointMSELoss', 'use_target_weight': True},
        'decoder': codec,
    }
    model = {'type': 'TopdownPoseEstimator', 'backbone': BACKBONES[name], 'head': head}
    return f"default_scope = 'mmpose'\nmodel = {model!r}\n"


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our published models, and what MMPose made of them and by itself."""
    if not PEER.is_file():
        pytest.skip(f'no real MMPose to compare with: {PEER} is missing')
    folder = tmp_path_factory.mktemp('mmpose')
    np.save(folder / 'image.npy', np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype('f4'))
    for name in BACKBONES:
        meta = {'keypoint_names': list(COCO_KEYPOINTS.names), 'metrics': {'AP': 0.5}}
        content = {'state_dict': moved(ours(name)).state_dict(), 'meta': meta}
        torch.save(content, folder / f'{name}.ckpt')
        published = publish(folder / f'{name}.ckpt', folder / f'{name}.pth', file_format='mmpose')
        shutil.copy(published, folder / f'ours_{name}.pth')
        (folder / f'config_{name}.py').write_text(mmpose_config(name))
    script = Path(__file__).with_name('mmpose_side.py')
    done = subprocess.run(
        [PEER, script, folder], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize('whose', ['theirs', 'ours'])
@pytest.mark.parametrize('name', BACKBONES)
def test_the_same_weights_give_the_same_heatmaps(folder: Path, name: str, whose: str) -> None:
    model = ours(name)
    report = load_checkpoint(model, folder / f'{whose}_{name}.pth', strict=True)
    assert report.format == {'theirs': 'MMPose', 'ours': 'PSA-Pose, published'}[whose]
    assert report.complete and not report.renamed and not report.notes
    with torch.no_grad():
        got = model.eval()(torch.from_numpy(np.load(folder / 'image.npy')))
    expected = np.load(folder / f'{whose}_{name}.npy')
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
