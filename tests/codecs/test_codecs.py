"""What holds of every codec: batches, memory formats, dtypes, devices, compilers, arguments."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.codecs.blur import blur, blur_kernel, blurred_window
from psa_pose.codecs.maximum import maximum
from psa_pose.errors import ConfigError
from psa_pose.registry import KEYPOINT_CODECS

CODECS = {
    'msra': MSRAHeatmap((64, 48), (16, 12)),
    'dark': MSRAHeatmap((64, 48), (16, 12), unbiased=True),
    'udp': UDPHeatmap((64, 48), (16, 12)),
    'udp_combined': UDPHeatmap((64, 48), (16, 12), 'combined', radius_factor=0.2),
}


@pytest.fixture(params=CODECS)
def codec(request):
    return CODECS[request.param]


def make_batch(size=7, dtype=torch.float32):
    """Keypoints, some outside, and visibility."""
    generator = torch.Generator().manual_seed(size)
    keypoints = torch.rand(size, 5, 2, dtype=dtype, generator=generator) * 90 - 20
    return keypoints, (torch.rand(size, 5, generator=generator) < 0.7).to(dtype)


def make_heatmaps(codec, size=7, dtype=torch.float32):
    """Targets with noise, as a network's."""
    heatmaps, _ = codec.encode(*make_batch(size, dtype))
    generator = torch.Generator().manual_seed(size)
    return heatmaps + 0.1 * torch.randn(heatmaps.shape, dtype=dtype, generator=generator)


class TestBatches:
    def test_a_batch_is_its_persons_one_at_a_time(self, codec):
        keypoints, visible = make_batch()
        heatmaps = make_heatmaps(codec)
        together = codec.encode(keypoints, visible) + codec.decode(heatmaps)
        for i in range(7):
            one = slice(i, i + 1)
            alone = codec.encode(keypoints[one], visible[one]) + codec.decode(heatmaps[one])
            for whole, part in zip(together, alone, strict=True):
                torch.testing.assert_close(whole[one], part, rtol=1e-4, atol=1e-4)

    def test_an_empty_batch(self, codec):
        heatmaps, weights = codec.encode(torch.empty(0, 5, 2), torch.empty(0, 5))
        assert heatmaps.shape == (0, 5 * codec.channels_per_keypoint, 12, 16)
        assert weights.shape == (0, 5)
        keypoints, scores = codec.decode(heatmaps)
        assert (keypoints.shape, scores.shape) == ((0, 5, 2), (0, 5))

    def test_memory_order_does_not_matter(self, codec):
        heatmaps = make_heatmaps(codec)
        expected = codec.decode(heatmaps)
        for other in (
            heatmaps.to(memory_format=torch.channels_last),
            heatmaps.mT.contiguous().mT,
            heatmaps.repeat(1, 2, 1, 1)[:, : heatmaps.shape[1]],
        ):
            assert all(map(torch.equal, codec.decode(other), expected))

    def test_inputs_are_left_alone(self, codec):
        keypoints, visible = make_batch()
        heatmaps = make_heatmaps(codec)
        copies = [t.clone() for t in (keypoints, visible, heatmaps)]
        weights = codec.encode(keypoints, visible)[1]
        codec.decode(heatmaps)
        assert all(map(torch.equal, (keypoints, visible, heatmaps), copies))
        assert weights.data_ptr() != visible.data_ptr()

    def test_unlabelled_keypoints_have_no_target_and_no_weight(self, codec):
        heatmaps, weights = codec.encode(torch.full((1, 2, 2), 20.0), torch.tensor([[1.0, 0.0]]))
        labelled, unlabelled = heatmaps.unflatten(1, (2, -1)).unbind(1)
        assert weights.tolist() == [[1, 0]]
        assert labelled[:, 0].max() > 0.9
        assert (unlabelled == 0).all()

    def test_where_nothing_is_above_0_nothing_is_found(self, codec):
        heatmaps = torch.zeros(2, 3 * codec.channels_per_keypoint, 12, 16)
        heatmaps[1] = -1
        keypoints, scores = codec.decode(heatmaps)
        assert (scores <= 0).all()
        torch.testing.assert_close(keypoints, -torch.tensor(codec.stride).expand(2, 3, 2))

    @pytest.mark.parametrize('wrong', [float('nan'), float('inf')])
    def test_one_person_s_nan_is_not_another_s(self, codec, wrong):
        heatmaps = make_heatmaps(codec)
        expected = codec.decode(heatmaps)[0]
        heatmaps[3] = wrong
        assert torch.equal(codec.decode(heatmaps)[0][[0, 1, 2, 4]], expected[[0, 1, 2, 4]])


class TestDevice:
    def test_nothing_leaves_the_device(self, codec):
        # A meta tensor has no values: .item(), .cpu() and host copies of a value all raise.
        heatmaps, weights = codec.encode(
            torch.zeros(2, 17, 2, device='meta'), torch.ones(2, 17, device='meta')
        )
        keypoints, scores = codec.decode(heatmaps)
        assert {t.device.type for t in (heatmaps, weights, keypoints, scores)} == {'meta'}
        assert heatmaps.shape == (2, 17 * codec.channels_per_keypoint, 12, 16)
        assert (keypoints.shape, scores.shape) == ((2, 17, 2), (2, 17))

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
    def test_dtypes_are_kept(self, codec, dtype):
        outputs = codec.encode(*make_batch(dtype=dtype)) + codec.decode(
            make_heatmaps(codec, dtype=dtype)
        )
        assert {output.dtype for output in outputs} == {dtype}

    def test_float32_is_enough(self, codec):
        exact = codec.decode(make_heatmaps(codec, dtype=torch.float64))[0]
        single = codec.decode(make_heatmaps(codec, dtype=torch.float64).float())[0]
        torch.testing.assert_close(single, exact.float(), atol=1e-2, rtol=0)


class Cycle(nn.Module):
    """Encode and decode as one graph."""

    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
        heatmaps, weights = self.codec.encode(keypoints, visible)
        return heatmaps, weights, *self.codec.decode(heatmaps)


class TestCompilers:
    def test_one_graph(self, codec):
        cycle = Cycle(codec)
        compiled = torch.compile(cycle, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(*make_batch()), cycle(*make_batch()))

    def test_export_with_any_batch(self, codec):
        cycle = Cycle(codec)
        batch = torch.export.Dim('batch', min=2, max=512)
        shapes = {'keypoints': {0: batch}, 'visible': {0: batch}}
        exported = torch.export.export(cycle, make_batch(3), dynamic_shapes=shapes).module()
        torch.testing.assert_close(exported(*make_batch(9)), cycle(*make_batch(9)))


class TestParts:
    @pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 4), (16, 12), (13, 11), (48, 64)])
    def test_maximum_is_the_first(self, size):
        width, height = size
        maps = torch.randint(0, 4, (50, 3, height, width)).float()  # with many that are equal
        pixel, values = maximum(maps)
        index = maps.flatten(2).argmax(-1)
        assert torch.equal(pixel[..., 1] * width + pixel[..., 0], index)
        assert torch.equal(values, maps.flatten(2).amax(-1))

    @pytest.mark.parametrize('kernel', [1, 3, 5, 7, 11, 17, 23])
    @pytest.mark.parametrize('size', [(20, 13), (9, 30), (30, 30)])
    def test_blur_is_opencv_s(self, kernel, size):
        if kernel // 2 >= min(size):
            pytest.skip('OpenCV itself mirrors once only')
        maps = torch.randn(2, 2, size[1], size[0])
        blurred = blur(maps, blur_kernel(kernel))
        for map_, ours in zip(maps.flatten(0, 1).numpy(), blurred.flatten(0, 1), strict=True):
            theirs = cv2.GaussianBlur(map_, (kernel, kernel), 0)
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    @pytest.mark.parametrize('reach', [1, 2])
    def test_window_is_a_part_of_the_whole(self, reach):
        kernel, (width, height) = blur_kernel(11), (12, 9)
        map_ = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
        whole = cv2.GaussianBlur(np.pad(map_, 5), (11, 11), 0)[5:-5, 5:-5]
        whole = np.pad(whole, reach, mode='edge')
        y, x = (
            t.flatten()[None]
            for t in torch.meshgrid(*map(torch.arange, (height, width)), indexing='ij')
        )
        maps = torch.tensor(map_).expand(1, height * width, height, width)
        windows = blurred_window(maps, kernel, torch.stack([x, y], -1), reach)
        for i, window in enumerate(windows[0]):
            top, left = int(y[0, i]), int(x[0, i])
            expected = whole[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
            np.testing.assert_allclose(window, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('kind', 'wrong', 'said'),
    [
        ('MSRAHeatmap', {'sigma': 0}, 'must be positive'),
        ('MSRAHeatmap', {'sigma': -1}, 'must be positive'),
        ('MSRAHeatmap', {'heatmap_size': (0, 64)}, 'must be positive'),
        ('MSRAHeatmap', {'input_size': (192, -1)}, 'must be positive'),
        ('MSRAHeatmap', {'blur_kernel_size': 10}, 'must be odd and positive, got 10'),
        ('UDPHeatmap', {'sigma': 0}, 'must be positive'),
        ('UDPHeatmap', {'radius_factor': 0}, 'must be positive'),
        ('UDPHeatmap', {'heatmap_size': (1, 64)}, 'at least 2'),
        ('UDPHeatmap', {'heatmap_type': 'offset'}, "'gaussian' or 'combined', got 'offset'"),
        ('UDPHeatmap', {'blur_kernel_size': 0}, 'must be odd and positive, got 0'),
        ('UDPHeatmap', {'unbiased': True}, "takes no keyword 'unbiased'"),
    ],
)
def test_impossible_arguments_name_the_config(kind, wrong, said):
    cfg = {'type': kind, 'input_size': (192, 256), 'heatmap_size': (48, 64)}
    with pytest.raises(ConfigError, match=rf'^codec.*{kind}.*{said}'):
        KEYPOINT_CODECS.build({**cfg, **wrong}, at='codec')
