"""From the image through crop, heatmap and decoder back to the image: the very same place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.datasets.transforms import TopdownAffine, crop_to_image, image_to_crop
from psa_pose.datasets.transforms.affine import apply_affine, fix_aspect_ratio

SIZES = {  # input, heatmap (width, height), sigma, blur kernel
    '256x192': ((192, 256), (48, 64), 2, 11),
    '384x288': ((288, 384), (72, 96), 3, 17),
    '256x256': ((256, 256), (64, 64), 2, 11),
    '128x96': ((96, 128), (24, 32), 1.5, 11),
}


def make_codec(name, size):
    input_size, heatmap_size, sigma, kernel = SIZES[size]
    blur = {'sigma': sigma, 'blur_kernel_size': kernel}
    if name in ('msra', 'dark'):
        return MSRAHeatmap(input_size, heatmap_size, **blur, unbiased=name == 'dark')
    kind = 'combined' if name == 'udp_combined' else 'gaussian'
    return UDPHeatmap(input_size, heatmap_size, kind, **blur)


def margin(name, codec):
    """From where on, in heatmap pixels, a border no longer pulls at the blurred Gaussian."""
    return 2 * codec.sigma if name in ('dark', 'udp') else 0


ERROR = {'msra': 0.5, 'dark': 0.05, 'udp': 0.05, 'udp_combined': 0.05}  # heatmap pixels
TIGHT = {'msra': 0.5, 'dark': 0.015, 'udp': 0.015, 'udp_combined': 1e-4}  # what is reached


def floats(low, high):
    return st.floats(low, high, allow_subnormal=False, width=32)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', ERROR)
class TestRoundTrip:
    @given(
        center=st.tuples(floats(-50, 400), floats(-50, 400)),
        scale=st.tuples(floats(10, 1500), floats(10, 1500)),
        rotation=floats(-180, 180),
        flip=st.booleans(),
        seed=st.integers(0, 2**16),
    )
    def test_a_keypoint_comes_back_to_its_image_pixel(
        self, name, size, center, scale, rotation, flip, seed
    ):
        codec = make_codec(name, size)
        image = np.zeros((30, 40, 3), np.uint8)
        box = np.array(center), np.array(scale)
        affine = image_to_crop(
            box[0],
            fix_aspect_ratio(box[1], codec.input_size),
            rotation,
            codec.input_size,
            40 if flip else None,
            codec.unbiased_affine,
        )
        gap = margin(name, codec)
        last = np.array(codec.heatmap_size) - 1
        on_heatmap = np.random.default_rng(seed).uniform(gap, last - gap, (8, 2))
        truth = apply_affine(crop_to_image(affine), on_heatmap * codec.stride)

        sample = {'img': image, 'center': box[0], 'scale': box[1], 'rotation': rotation}
        sample |= {'flip': flip, 'keypoints': truth, 'input_size': codec.input_size}
        sample['unbiased_affine'] = codec.unbiased_affine
        sample = TopdownAffine()(sample)
        keypoints = torch.tensor(sample['keypoints'], dtype=torch.float32)[None]
        decoded, scores = codec.decode(codec.encode(keypoints, torch.ones(1, 8))[0])
        found = apply_affine(sample['to_image'], decoded[0].double().numpy())

        error = (found - truth) @ affine[:, :2].T / codec.stride
        assert np.abs(error).max() <= ERROR[name] + 1e-4
        assert (scores > 0).all()

    def test_thousands_of_keypoints(self, name, size):
        codec = make_codec(name, size)
        gap, last = margin(name, codec), torch.tensor(codec.heatmap_size) - 1
        generator = torch.Generator().manual_seed(0)
        on_heatmap = gap + torch.rand(50, 50, 2, generator=generator) * (last - 2 * gap)
        keypoints = on_heatmap * torch.tensor(codec.stride)
        decoded, _ = codec.decode(codec.encode(keypoints, torch.ones(50, 50))[0])
        error = (decoded - keypoints).abs() / torch.tensor(codec.stride)
        assert error.max() <= TIGHT[name] + 1e-4
        if name != 'msra':
            assert error.mean() < TIGHT[name] / 10
