"""The estimator: preprocessing, loss, prediction, flip test."""

import pytest
import torch
from torch import Tensor, nn

from psa_pose import build_model
from psa_pose.errors import ConfigError
from psa_pose.models import KeypointMSELoss, TopdownPoseEstimator
from psa_pose.models.estimator import PoseDataPreprocessor
from psa_pose.registry import KEYPOINT_CODECS
from psa_pose.structures import COCO_KEYPOINTS, PoseBatch

CODEC = {'type': 'MSRAHeatmap', 'input_size': (96, 128), 'heatmap_size': (24, 32), 'sigma': 1.5}


def make_batch(size: int = 3, seed: int = 0) -> PoseBatch:
    generator = torch.Generator().manual_seed(seed)
    k = COCO_KEYPOINTS.num_keypoints
    return PoseBatch(
        crop=torch.randint(0, 256, (size, 128, 96, 3), generator=generator, dtype=torch.uint8),
        keypoints=torch.rand(size, k, 2, generator=generator) * torch.tensor([95.0, 127.0]),
        visible=torch.ones(size, k),
        to_image=torch.tensor([[2.0, 0.0, 10.0], [0.0, 2.0, 20.0]]).expand(size, 2, 3),
        person=torch.arange(size),
        usable=torch.ones(size, dtype=torch.bool),
    )


def make_estimator(**kwargs: object) -> TopdownPoseEstimator:
    return TopdownPoseEstimator(
        backbone={'type': 'HRNet', 'arch': 'tiny', 'attention': {'type': 'PSA'}},
        head={'type': 'HeatmapHead', 'deconv_out_channels': ()},
        codec=KEYPOINT_CODECS.build(kwargs.pop('codec', CODEC)),  # type: ignore[arg-type]
        info=COCO_KEYPOINTS,
        **kwargs,  # type: ignore[arg-type]
    ).eval()


def test_preprocessor_normalises_like_imagenet_and_stays_channels_last() -> None:
    crop = make_batch().crop
    out = PoseDataPreprocessor()(crop)
    pixel = (crop[1, 5, 7].float() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(out[1, :, 5, 7], pixel, rtol=1e-5, atol=1e-5)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_loss_is_mmposes_mean_and_ignores_unlabelled_keypoints() -> None:
    heatmaps, targets = torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3)
    weights = torch.ones(2, 5)
    weights[0, 1] = 0
    expected = 0.0
    for b in range(2):
        for k in range(5):
            if weights[b, k]:
                expected += float((heatmaps[b, k] - targets[b, k]).square().sum())
    expected /= heatmaps.numel()
    assert float(KeypointMSELoss()(heatmaps, targets, weights)) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_nothing_labelled_has_loss_and_gradient_zero() -> None:
    model = make_estimator().train()
    batch = make_batch()
    loss = model.loss(batch._replace(visible=torch.zeros_like(batch.visible)))
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


class Oracle(nn.Module):
    """A network that answers with fixed heatmaps, mirrored where its input is mirrored.

    The mirrored crops of a flip test come behind the others, in one batch.
    """

    def __init__(self, heatmaps: Tensor, first_pixel: Tensor) -> None:
        super().__init__()
        self.heatmaps, self.first_pixel = heatmaps, first_pixel

    def forward(self, x: Tensor) -> Tensor:
        assert torch.equal(x[: len(x) // 2, :, 0, 0], self.first_pixel)
        flipped = self.heatmaps[:, list(COCO_KEYPOINTS.flip_indices)].flip(3)
        flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], -1)  # a stride of 4 misaligns it
        return torch.cat([self.heatmaps, flipped])


def test_prediction_is_the_keypoint_moved_to_image_pixels() -> None:
    model, batch = make_estimator(), make_batch()
    heatmaps, _ = model.codec.encode(batch.keypoints, batch.visible)
    first = model.data_preprocessor(batch.crop)[:, :, 0, 0]
    model.backbone, model.head = Oracle(heatmaps, first), nn.Identity()
    prediction = model.predict(batch)
    expected = batch.keypoints * 2 + torch.tensor([10.0, 20.0])
    # Half a heatmap pixel is 2 crop pixels, which are 4 image pixels here; plus the flip's border.
    assert (prediction.keypoints - expected).abs().max() <= 4 + 1e-4
    assert prediction.scores.shape == (3, 17)


def test_flip_test_averages_aligned_maps() -> None:
    batch = make_batch()
    model = make_estimator()
    keypoints = batch.keypoints.clamp(min=30, max=60)  # away from the column that a shift repeats
    heatmaps, _ = model.codec.encode(keypoints, batch.visible)
    first = model.data_preprocessor(batch.crop)[:, :, 0, 0]
    model.backbone, model.head = Oracle(heatmaps, first), nn.Identity()
    torch.testing.assert_close(model.heatmaps(batch), heatmaps)
    model.shift_heatmap = False
    assert (model.heatmaps(batch) - heatmaps).abs().max() > 0.1


@pytest.mark.parametrize('channels_last', [True, False])
def test_the_layout_in_memory_changes_nothing_but_itself(channels_last: bool) -> None:
    model, batch = make_estimator(), make_batch()
    with torch.inference_mode():
        expected = model.predict(batch)
        model.use_channels_last(channels_last)
        assert model.data_preprocessor(batch.crop).is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        prediction = model.predict(batch)
    torch.testing.assert_close(prediction.scores, expected.scores, rtol=1e-4, atol=1e-6)


def test_under_autocast_the_network_alone_leaves_float32() -> None:
    """Coordinates of hundreds of pixels multiplied in bfloat16 would be whole pixels off."""
    model, batch = make_estimator(), make_batch()
    heatmaps, _ = model.codec.encode(batch.keypoints, batch.visible)
    model.heatmaps = lambda batch: heatmaps  # type: ignore[method-assign]
    expected = model.predict(batch)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(model.predict(batch).keypoints, expected.keypoints)
        assert make_estimator().loss(batch).dtype == torch.float32
        assert make_estimator()(torch.zeros(1, 3, 64, 64)).dtype == torch.bfloat16


def test_flip_test_of_a_network_is_symmetric() -> None:
    model = make_estimator(test_cfg={'flip_test': True, 'shift_heatmap': False})
    batch = make_batch()
    mirrored = batch._replace(crop=batch.crop.flip(2))
    swap = list(COCO_KEYPOINTS.flip_indices)
    with torch.inference_mode():
        torch.testing.assert_close(
            model.heatmaps(mirrored), model.heatmaps(batch).flip(3)[:, swap], rtol=1e-4, atol=1e-6
        )


def test_wrong_heatmap_size_is_named() -> None:
    model = make_estimator(codec={**CODEC, 'heatmap_size': (48, 64)})
    with pytest.raises(
        ConfigError, match=r'codec.heatmap_size.*\(3, 17, 64, 48\).*\(3, 17, 32, 24\)'
    ):
        model.loss(make_batch())


def test_unknown_test_cfg_is_refused() -> None:
    with pytest.raises(ValueError, match=r"test_cfg: no option 'flip'; did you mean 'flip_test'"):
        make_estimator(test_cfg={'flip': True})


@pytest.mark.parametrize('backbone', ['hrnet_w32', 'simplebaseline_r50'])
@pytest.mark.parametrize('attention', ['', '_psa_p', '_psa_s'])
def test_coco_configs_build_without_cocos_files(backbone: str, attention: str) -> None:
    with torch.device('meta'):
        model = build_model(f'configs/coco/{backbone}{attention}_256x192.py')
        out = model(torch.empty(2, 3, 256, 192))
    assert out.shape == (2, 17, 64, 48)
    layouts = {m.layout for m in model.modules() if type(m).__name__ == 'PSA'}
    assert layouts == {'': set(), '_psa_p': {'parallel'}, '_psa_s': {'sequential'}}[attention]


def test_the_network_compiles_and_exports_as_one_graph() -> None:
    model = make_estimator()
    x = torch.randn(2, 3, 64, 32)
    explanation = torch._dynamo.explain(model)(x)
    assert explanation.graph_break_count == 0
    batch = torch.export.Dim('batch', min=1, max=64)
    exported = torch.export.export(model, (x,), dynamic_shapes={'inputs': {0: batch}})
    other = torch.randn(5, 3, 64, 32)
    torch.testing.assert_close(exported.module()(other), model(other), rtol=1e-4, atol=1e-5)
