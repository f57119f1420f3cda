"""The maximum of blurred maps against the whole blur, for maps that make it hard to find."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.codecs import UDPHeatmap, blurred_maximum, refine
from psa_pose.codecs.blur import blur, blur_kernel, blur_matrix
from psa_pose.codecs.maximum import maximum
from tests.codecs.test_codecs import CODECS, make_heatmaps

SIZES = [(64, 48), (13, 5), (20, 40), (31, 2), (17, 1), (12, 9), (3, 4)]  # (height, width)
BINOMIAL = [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]  # sums of small integers have no rounding
DISKS = UDPHeatmap((192, 256), (48, 64), 'combined')


def disks(noise, generator):
    """Disks (64, 17, 64, 48) of keypoints anywhere in the crop, and noise."""
    keypoints = torch.rand(64, 17, 2, generator=generator) * torch.tensor([191.0, 255.0])
    maps = DISKS.encode(keypoints, torch.ones(64, 17))[0][:, ::3]
    return maps + noise * torch.randn(maps.shape, generator=generator)


def blurred_throughout(monkeypatch):
    """The list of how many maps each call blurs throughout, filled from now on."""
    counts = []

    def counting(maps, kernel):
        counts.append(maps.shape[0] * maps.shape[1])
        return blur(maps, kernel)

    monkeypatch.setattr(blurred_maximum, 'blur', counting)
    return counts


@st.composite
def hard_maps(draw):
    """(1, 8, H, W) with a few peaks of chosen heights, and noise, and an offset, at any scale."""
    height, width = draw(st.sampled_from(SIZES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    maps = torch.zeros(8, height * width, dtype=torch.float64)
    for tall in draw(st.lists(st.sampled_from([1, 0.999, 0.5, -1, 3]), max_size=6)):
        places = torch.randint(0, height * width, (8, 1), generator=generator)
        maps.scatter_add_(1, places, torch.full((8, 1), tall, dtype=torch.float64))
    maps = maps.view(1, 8, height, width)
    maps = blur(maps, blur_kernel(draw(st.sampled_from([1, 7, 15]))))
    noise = torch.randn(maps.shape, generator=generator, dtype=torch.float64)
    maps = maps + draw(st.sampled_from([0, 1e-3, 0.02, 0.3])) * noise
    maps = maps + draw(st.sampled_from([0, 0, 0.1, -0.1, -5]))
    return maps * draw(st.sampled_from([1, 1e-3, 1e-19, 1e-23, 1e-37, 1e18, 1e25]))


class TestMaximum:
    @given(hard_maps(), st.sampled_from([3, 7, 15, 23]))
    def test_of_hard_maps(self, maps, size):
        kernel = blur_kernel(size)
        exact = blur(maps, kernel)
        for dtype in (torch.float32, torch.float64):
            pixel, values = blurred_maximum.blurred_maximum(maps.to(dtype), kernel)
            index = pixel[..., 1] * maps.shape[3] + pixel[..., 0]
            there = exact.flatten(2).gather(2, index.unsqueeze(-1)).squeeze(-1)
            error = 100 * torch.finfo(dtype).eps * maps.abs().amax((2, 3)) + 1e-44
            assert (there >= exact.amax((2, 3)) - error).all()
            assert ((values - exact.amax((2, 3))).abs() <= error).all()

    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(SIZES),
        st.sampled_from([1, 2, 10, 200]),
        st.sampled_from([torch.float32, torch.float64]),
    )
    def test_of_many_it_is_the_first(self, seed, size, tall, dtype):
        # A few spikes of one height, or up to `tall`, on nothing: often several are highest.
        generator = torch.Generator().manual_seed(seed)
        maps = torch.randint(0, tall + 1, (4, 3, *size), generator=generator)
        maps = (maps * (torch.rand(maps.shape, generator=generator) < 0.01)).to(dtype)
        pixel, values = blurred_maximum.blurred_maximum(maps, BINOMIAL)
        expected, expected_values = maximum(blur(maps, BINOMIAL))
        assert torch.equal(pixel, expected)
        assert torch.equal(values, expected_values)

    @pytest.mark.parametrize('constant', [0.0, 1.0, -1.0, float('nan'), float('inf')])
    def test_of_constant_maps(self, constant):
        maps = torch.full((2, 3, 20, 14), constant)
        found = blurred_maximum.blurred_maximum(maps, BINOMIAL)
        for ours, expected in zip(found, maximum(blur(maps, BINOMIAL)), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)

    @pytest.mark.parametrize(('noise', 'most'), [(0, 0.01), (0.03, 0.03), (1, 1)])
    def test_of_disks_and_most_are_not_blurred_throughout(self, noise, most, monkeypatch):
        maps = disks(noise, torch.Generator().manual_seed(0))
        expected, expected_values = maximum(blur(maps, DISKS.kernel))
        counts = blurred_throughout(monkeypatch)
        pixel, values = blurred_maximum.blurred_maximum(maps, DISKS.kernel)
        assert sum(counts) <= most * 64 * 17
        assert (noise < 1) or sum(counts) > 64 * 16
        if noise:  # without, pixels to both sides of a keypoint can be the same but for rounding
            assert torch.equal(pixel, expected)
        torch.testing.assert_close(values, expected_values, atol=1e-6, rtol=0)


class TestBounds:
    @given(hard_maps(), st.sampled_from([3, 7, 23]), st.sampled_from([0, 1, 5, 9]))
    def test_no_pixel_of_a_row_is_above(self, maps, size, edge):
        lines, kernel = maps.float().flatten(0, 1), blur_kernel(size)
        down, across = (blur_matrix(kernel, n, lines, reflect=True) for n in lines.shape[1:])
        bounds = blurred_maximum._row_bounds(lines, down, across, min(edge, lines.shape[2]))
        # Not <=: of squares too large for float32 there is nan, which says that all may be.
        assert not (blur(maps.float(), kernel)[0].amax(-1) > bounds).any()


@pytest.mark.parametrize('noise', [0.01, 0.3, 1, 100])
@pytest.mark.parametrize('name', ['dark', 'udp', 'udp_combined'])
def test_what_may_not_choose_finds_the_same(name, noise, monkeypatch):
    codec = CODECS[name]
    maps = make_heatmaps(codec)
    generator = torch.Generator().manual_seed(0)
    maps = maps + noise * torch.randn(maps.shape, generator=generator)
    chosen = codec.decode(maps.double())
    for module in (blurred_maximum, refine):
        monkeypatch.setattr(module, 'may_choose', lambda maps: False)
    for ours, expected in zip(chosen, codec.decode(maps.double()), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
