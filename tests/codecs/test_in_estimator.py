"""A codec named in a config reaches head, loss, flip test and crops, and is named nowhere else."""

import numpy as np
import pytest
import torch

from psa_pose import build_model
from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.datasets.transforms import crop_to_image, image_to_crop
from psa_pose.engine.build import build_dataset
from psa_pose.engine.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.models import TopdownPoseEstimator
from psa_pose.structures import COCO_KEYPOINTS, PoseBatch
from tests.handmade import coco_content, write_dataset

SIZES = ((96, 128), (24, 32))
CODECS = {
    'msra': MSRAHeatmap(*SIZES, sigma=1.5),
    'dark': MSRAHeatmap(*SIZES, sigma=1.5, unbiased=True),
    'udp': UDPHeatmap(*SIZES, sigma=1.5),
    'udp_combined': UDPHeatmap(*SIZES, 'combined'),
}
LOSS = {'udp_combined': {'type': 'CombinedTargetMSELoss'}}
SWAP = torch.tensor(COCO_KEYPOINTS.flip_indices)


def make_batch(size=2):
    generator = torch.Generator().manual_seed(0)
    return PoseBatch(
        crop=torch.randint(0, 256, (size, 128, 96, 3), generator=generator, dtype=torch.uint8),
        keypoints=torch.rand(size, 17, 2, generator=generator) * torch.tensor([95.0, 127.0]),
        visible=torch.ones(size, 17),
        to_image=torch.eye(2, 3).expand(size, 2, 3),
        person=torch.arange(size),
        usable=torch.ones(size, dtype=torch.bool),
    )


def make_estimator(name, loss=None, **test_cfg):
    torch.manual_seed(0)
    return TopdownPoseEstimator(
        backbone={'type': 'HRNet', 'arch': 'tiny'},
        head={
            'type': 'HeatmapHead',
            'deconv_out_channels': (),
            'loss': loss or LOSS.get(name, {'type': 'KeypointMSELoss'}),
        },
        codec=CODECS[name],
        info=COCO_KEYPOINTS,
        test_cfg=test_cfg,
    ).eval()


@pytest.mark.parametrize('name', CODECS)
def test_head_loss_and_prediction_fit_the_codec(name):
    model, batch = make_estimator(name), make_batch()
    assert model.head.final_layer.out_channels == 17 * CODECS[name].channels_per_keypoint
    loss = model.loss(batch)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    keypoints, scores = model.predict(batch)
    assert (keypoints.shape, scores.shape) == ((2, 17, 2), (2, 17))


@pytest.mark.parametrize(
    ('name', 'loss', 'said'),
    [
        ('udp_combined', 'KeypointMSELoss', "got 51 for 17.*type='CombinedTargetMSELoss'"),
        ('udp', 'CombinedTargetMSELoss', "heatmap_type='combined'.*got 17 for 17"),
    ],
)
def test_a_loss_that_does_not_fit_names_the_one_that_does(name, loss, said):
    with pytest.raises(ConfigError, match=rf'^head.loss: {loss} .*{said}'):
        make_estimator(name, {'type': loss}).loss(make_batch())


def test_the_flip_test_s_shift_is_the_codec_s_unless_set():
    assert {name: make_estimator(name).shift_heatmap for name in CODECS} == {
        'msra': True,
        'dark': True,
        'udp': False,
        'udp_combined': False,
    }
    assert make_estimator('udp', shift_heatmap=True).shift_heatmap
    assert not make_estimator('dark', shift_heatmap=False).shift_heatmap


@pytest.mark.parametrize('name', ['udp', 'udp_combined'])
def test_flip_test_of_a_network_is_symmetric(name):
    model, batch = make_estimator(name), make_batch()
    mirrored = batch._replace(crop=batch.crop.flip(2))
    with torch.inference_mode():
        there, back = model.heatmaps(batch), model.heatmaps(mirrored)
    torch.testing.assert_close(model.codec.mirror(back, SWAP), there, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', ['udp', 'udp_combined'])
def test_a_mirrored_person_s_target_is_the_mirrored_target(name):
    codec, batch = CODECS[name], make_batch()
    mirrored = batch.keypoints[:, SWAP] * torch.tensor([-1, 1]) + torch.tensor([95.0, 0])
    there, _ = codec.encode(batch.keypoints, batch.visible)
    back, _ = codec.encode(mirrored, batch.visible)
    torch.testing.assert_close(codec.mirror(back, SWAP), there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('codec', ['', 'dark_', 'udp_', 'udp_combined_'])
def test_configs_name_the_codec_alone(codec, tmp_path):
    cfg = load_config(f'configs/coco/hrnet_w32_{codec}256x192.py')
    ann_file = write_dataset(tmp_path, coco_content())
    cfg.val_dataloader.dataset.update(
        type='CocoStyleDataset',
        data_root=str(tmp_path),
        ann_file=ann_file.name,
        data_prefix={'img': ''},
    )
    dataset = build_dataset(cfg, 'val_dataloader')
    assert dataset.input_size == (192, 256)
    affine = image_to_crop(
        np.array([50, 45]),  # of the handmade person's box
        dataset.crop_scale(0),
        0,
        (192, 256),
        unbiased='udp' in codec,
    )
    np.testing.assert_allclose(dataset[0].to_image, crop_to_image(affine), rtol=1e-5)
    with torch.device('meta'):
        model = build_model(cfg)
    assert model.codec.unbiased_affine == ('udp' in codec) != model.shift_heatmap
    assert getattr(model.codec, 'unbiased', False) == ('dark' in codec)


@pytest.mark.parametrize('codec', ['dark', 'udp'])
def test_psa_configs(codec):
    plain = load_config(f'configs/coco/hrnet_w32_{codec}_256x192.py')
    psa = load_config(f'configs/coco/hrnet_w32_psa_p_{codec}_256x192.py')
    assert psa.codec == plain.codec
    assert psa.model.backbone.attention.layout == 'parallel'
