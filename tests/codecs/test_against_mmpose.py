"""The same results as MMPose 1.1.0's, whose numbers `make_reference.py` wrote down."""

from pathlib import Path

import codec_reference as reference
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from psa_pose.codecs import HeatmapCodec, MSRAHeatmap, UDPHeatmap
from psa_pose.datasets.transforms import crop_to_image, image_to_crop
from psa_pose.datasets.transforms.affine import apply_affine
from psa_pose.models import CombinedTargetMSELoss

NUMBERS = np.load(Path(__file__).with_name(reference.FILE))
PIXEL = 1e-3  # of the crop


def make_codec(name: str, setup: reference.Setup) -> HeatmapCodec:
    size, blur = setup[:2], {'sigma': setup.sigma, 'blur_kernel_size': setup.kernel}
    if name in ('msra', 'dark'):
        return MSRAHeatmap(*size, **blur, unbiased=name == 'dark')
    return UDPHeatmap(*size, 'combined' if name == 'udp_combined' else 'gaussian', **blur)


def mmposes(key: str, setup: reference.Setup) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in crop pixels and scores, float64.

    MMPose's UDP gives heatmap pixels times input_size / (heatmap_size - 1), and undoes the odd
    factor where it goes back to the image; see `test_image_pixels_of_udp`.
    """
    decoded = NUMBERS[key].astype(np.float64)
    size = np.array(setup.input_size)
    factor = (size - 1) / size if '/udp' in key else 1
    return decoded[..., :2] * factor, decoded[..., 2]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('kind', reference.KINDS)
@pytest.mark.parametrize('name', reference.CODECS)
@pytest.mark.parametrize('setup', reference.SETUPS)
def test_decode(setup, name, kind, dtype):
    sizes = reference.SETUPS[setup]
    codec = make_codec(name, sizes)
    maps = torch.tensor(reference.heatmaps(kind, sizes, codec.channels_per_keypoint))
    keypoints, scores = (out.numpy() for out in codec.decode(maps.to(dtype)))
    expected, expected_scores = mmposes(f'decode/{setup}/{name}/{kind}', sizes)
    assert_allclose(scores, expected_scores, atol=1e-6, rtol=1e-6)
    found = scores > 0
    assert found.mean() == (kind not in ('zero', 'below')) or (name, kind) == (
        'udp_combined',
        'negative',  # the blur leaves nothing of a flat disk above 0
    )
    # MMPose: nan or a place in another keypoint's map where UDP finds nothing; (-1, -1) elsewhere.
    assert_allclose(keypoints[~found], np.broadcast_to([codec.stride], expected.shape)[~found] * -1)
    if name == 'msra':  # a last row or column has its own rule, the reason is in its docstring
        last = (expected / codec.stride >= np.array(sizes.heatmap_size) - 1.5).any(-1)
        assert last.mean() < 0.5
        found &= ~last
    if kind in ('noise60', 'noise'):  # here and there the Hessian is singular but for rounding
        single, double = (codec.decode(maps.to(t))[0] for t in (torch.float32, torch.float64))
        rounding = (single - double).abs().amax(-1).numpy() > PIXEL / 10
        assert rounding.mean() < 0.125
        found &= ~rounding
    assert_allclose(keypoints[found], expected[found], atol=PIXEL, rtol=0)


@pytest.mark.parametrize('name', reference.CODECS)
def test_encode(name):
    setup = reference.SETUPS['uneven']
    points, visible = map(torch.tensor, reference.keypoints(setup))
    codec = make_codec(name, setup)
    heatmaps, weights = codec.encode(points, visible)
    assert_allclose(weights, NUMBERS[f'weights/{name}'])
    heatmaps = heatmaps.unflatten(1, (reference.K, -1)).numpy()
    expected = NUMBERS[f'encode/{name}'].reshape(heatmaps.shape)
    if name in ('msra', 'udp'):  # MMPose rounds to 0 what is up to a pixel and a half below it
        inside = (points.numpy() / codec.stride > -0.5).all(-1)
        assert inside.mean() > 0.7
        heatmaps, expected = heatmaps[inside], expected[inside]
    assert_allclose(heatmaps, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('unbiased', [False, True])
def test_affine(unbiased):
    warp = 'get_udp_warp_matrix' if unbiased else 'get_warp_matrix'
    for (center, scale, rotation), expected in zip(
        reference.boxes(), NUMBERS[f'affine/{warp}'], strict=True
    ):
        # MMPose's two turn the person in opposite directions, ours in one.
        angle = -rotation if unbiased else rotation
        affine = image_to_crop(center, scale, angle, (192, 256), unbiased=unbiased)
        assert_allclose(affine, expected, atol=2e-3, rtol=1e-4)  # MMPose's are float32


@pytest.mark.parametrize('name', ['udp', 'udp_combined'])
def test_image_pixels_of_udp(name):
    setup = reference.SETUPS['256x192']
    codec = make_codec(name, setup)
    maps = torch.tensor(reference.heatmaps('noisy', setup, codec.channels_per_keypoint))
    keypoints = codec.decode(maps)[0].double().numpy()
    size = np.array(setup.input_size)
    expected = NUMBERS[f'decode/256x192/{name}/noisy'][..., :2].astype(np.float64)
    for center, scale, _ in reference.boxes():
        affine = image_to_crop(center, scale, 0, setup.input_size, unbiased=True)
        ours = apply_affine(crop_to_image(affine), keypoints)
        # As in TopdownPoseEstimator.add_pred_to_datasample, which knows no rotation.
        theirs = expected / size * scale + center - 0.5 * scale
        assert_allclose(ours, theirs, atol=PIXEL * max(scale / size), rtol=0)


@pytest.mark.parametrize('weighted', [False, True])
def test_loss_of_disks_and_offsets(weighted):
    loss = CombinedTargetMSELoss(use_target_weight=weighted)
    value = loss(*map(torch.tensor, reference.loss_input()))
    assert_allclose(value, NUMBERS[f'loss/{weighted}'], rtol=1e-5)
    assert CombinedTargetMSELoss(weighted, 2.0)(
        *map(torch.tensor, reference.loss_input())
    ) == pytest.approx(2 * value.item())


def test_mirror_of_disks_and_offsets():
    codec = make_codec('udp_combined', reference.SETUPS['uneven'])
    heatmaps = torch.tensor(reference.loss_input()[0])
    mirrored = codec.mirror(heatmaps, torch.arange(reference.K).flip(0))
    assert_allclose(mirrored, NUMBERS['flip'])
