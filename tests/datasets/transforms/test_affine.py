"""The one warp: exact inverse, keypoints on the same content, mirror, direction of rotation."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.datasets.transforms import RandomFlip, TopdownAffine, crop_to_image, image_to_crop
from psa_pose.datasets.transforms.affine import apply_affine, fix_aspect_ratio, warp
from tests.handmade import picture

CROP_SIZE = (48, 64)


def floats(low, high):
    return st.floats(low, high, allow_subnormal=False)


def crop_affine(center, scale, rotation, crop_size, flip_width, unbiased=False):
    scale = fix_aspect_ratio(scale, crop_size)
    return image_to_crop(center, scale, rotation, crop_size, flip_width, unbiased)


boxes = (
    st.tuples(floats(-100, 2000), floats(-100, 2000)).map(np.array),
    st.tuples(floats(4, 3000), floats(4, 3000)).map(np.array),
    floats(-180, 180),
    st.tuples(st.integers(16, 512), st.integers(16, 512)),
    st.none() | st.integers(1, 2000),
)
similarities = st.builds(crop_affine, *boxes)
affines = st.builds(crop_affine, *boxes, st.booleans())


def sample_of(image, center, scale, **more):
    return {
        'img': image,
        'img_size': image.shape[1::-1],
        'center': np.array(center, float),
        'scale': np.array(scale, float),
        'keypoints': np.zeros((1, 2)),
        'visible': np.ones(1, np.float32),
        'input_size': CROP_SIZE,
        'flip_indices': np.array([0]),
        **more,
    }


def centroid(crop):
    """x, y of a grey picture's centre of mass."""
    mass = crop.astype(float)
    rows, columns = np.indices(mass.shape)
    return np.array([(columns * mass).sum(), (rows * mass).sum()]) / mass.sum()


class TestWarp:
    IMAGE = picture(3, (400, 300))

    @given(
        st.tuples(floats(-200, 600), floats(-200, 500)).map(np.array),
        st.tuples(floats(4, 900), floats(4, 900)).map(np.array),
        floats(-180, 180),
        st.none() | st.just(400),
    )
    def test_as_a_warp_of_the_whole_image(self, center, scale, rotation, flip_width):
        affine = crop_affine(center, scale, rotation, CROP_SIZE, flip_width)
        whole = cv2.warpAffine(self.IMAGE, affine, CROP_SIZE, flags=cv2.INTER_LINEAR)
        crop = warp(self.IMAGE, crop_to_image(affine), CROP_SIZE)
        assert crop.shape == whole.shape
        difference = np.abs(crop.astype(int) - whole)
        # OpenCV 4 counts in 32nds of a pixel, so a moved corner may weigh neighbours differently.
        assert difference.max() <= (1 if cv2.__version__ >= '5' else 255 / 32 + 1)
        # A crop of four pixels has many values just between two greys: they may round either way.
        assert difference.mean() < (0.05 if cv2.__version__ >= '5' else 0.5)


class TestAffine:
    @given(affines, st.lists(st.tuples(floats(-500, 2500), floats(-500, 2500)), min_size=1))
    def test_to_the_crop_and_back_is_the_identity(self, affine, points):
        points = np.array(points)
        back = apply_affine(crop_to_image(affine), apply_affine(affine, points))
        np.testing.assert_allclose(back, points, atol=1e-9, rtol=1e-12)

    @given(affines, st.lists(st.tuples(floats(-100, 600), floats(-100, 600)), min_size=1))
    def test_to_the_image_and_back_is_the_identity(self, affine, points):
        # magnifies by up to 128: the image's rounding error grows by as much
        points = np.array(points)
        back = apply_affine(affine, apply_affine(crop_to_image(affine), points))
        np.testing.assert_allclose(back, points, atol=1e-9, rtol=1e-12)

    @given(similarities)
    def test_it_is_a_similarity(self, affine):
        linear = affine[:, :2]
        scale = np.sqrt(abs(np.linalg.det(linear)))
        np.testing.assert_allclose(linear @ linear.T / scale**2, np.eye(2), atol=1e-12)

    def test_the_box_s_corners_are_the_crop_s(self):
        affine = image_to_crop(np.array([100, 80]), np.array([96, 128]), 0, CROP_SIZE)
        corners = apply_affine(affine, np.array([[52.0, 16.0], [148.0, 144.0]]))
        np.testing.assert_allclose(corners, [[0, 0], [48, 64]], atol=1e-12)

    def test_the_box_s_corners_are_the_outermost_pixels_of_an_unbiased_crop(self):
        box = np.array([100, 80]), np.array([96, 128])
        affine = image_to_crop(*box, 0, CROP_SIZE, unbiased=True)
        corners = apply_affine(affine, np.array([[52.0, 16.0], [148.0, 144.0], [100, 80]]))
        np.testing.assert_allclose(corners, [[0, 0], [47, 63], [23.5, 31.5]], atol=1e-12)

    @given(*boxes[:4], st.integers(1, 2000))
    def test_a_mirrored_person_s_crop_is_the_mirrored_crop_only_if_unbiased(
        self, center, scale, rotation, crop_size, flip_width
    ):
        mirrored = np.array([flip_width - 1 - center[0], center[1]])
        points = center + np.array([[0, 0], [0.3, 0.2], [-0.4, 0.1]]) * scale
        for unbiased in (False, True):
            args = scale, rotation, crop_size, None, unbiased
            plain = apply_affine(crop_affine(center, *args), points)
            args = scale, -rotation, crop_size, flip_width, unbiased
            flipped = apply_affine(crop_affine(mirrored, *args), points)
            expected = plain * [-1, 1] + [crop_size[0] - unbiased, 0]
            np.testing.assert_allclose(flipped, expected, atol=1e-7)

    def test_a_positive_rotation_turns_counter_clockwise_on_the_screen(self):
        affine = image_to_crop(np.array([100, 80]), np.array([48, 64]), 90, CROP_SIZE)
        above, left = np.array([100.0, 70.0]), np.array([90.0, 80.0])
        np.testing.assert_allclose(apply_affine(affine, above), [24 - 10, 32], atol=1e-12)
        np.testing.assert_allclose(apply_affine(affine, left), [24, 32 + 10], atol=1e-12)

    @pytest.mark.parametrize('rotation', [30, -75, 170])
    @pytest.mark.parametrize('flip_width', [None, 201])
    @pytest.mark.parametrize('unbiased', [False, True])
    def test_rotation_turns_a_mirrored_person_the_same_way(self, rotation, flip_width, unbiased):
        affine = image_to_crop(
            np.array([100.0, 80]), np.array([49, 65]), rotation, CROP_SIZE, flip_width, unbiased
        )
        affine = affine / (np.array([[47 / 49], [63 / 65]]) if unbiased else 1)
        up = affine[:, :2] @ np.array([0, -1.0])
        angle = np.rad2deg(np.arctan2(-up[1], up[0])) - 90  # of the picture's up; y goes down
        assert (angle - rotation + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
        assert (np.linalg.det(affine[:, :2]) < 0) == (flip_width is not None)

    @given(floats(1, 2000), floats(1, 2000), st.sampled_from([(192, 256), (256, 256), (288, 384)]))
    def test_the_aspect_ratio_fix_grows_one_side_only(self, width, height, size):
        fixed = fix_aspect_ratio(np.array([width, height]), size)
        assert fixed[0] / fixed[1] == pytest.approx(size[0] / size[1], rel=1e-12)
        assert (fixed >= np.array([width, height])).all()
        assert fixed[0] == width or fixed[1] == height


class TestPixels:
    @pytest.mark.parametrize('magnification', [1, 1.7, 3, 6])
    @pytest.mark.parametrize('rotation', [0, 37, -80])
    @pytest.mark.parametrize('flip', [False, True])
    @pytest.mark.parametrize('unbiased', [False, True])
    def test_a_keypoint_stays_on_its_dot(self, magnification, rotation, flip, unbiased):
        # Half a pixel of misplaced convention is half a dot: 3 crop pixels at magnification 6.
        for dot in [(40, 30), (42, 31), (39, 28)]:
            image = np.zeros((90, 120, 3), np.uint8)
            image[dot[1], dot[0]] = 255
            scale = np.array(CROP_SIZE) / magnification
            x = 119 - 40 if flip else 40
            sample = sample_of(image, (x, 30), scale, rotation=rotation, flip=flip)
            sample['unbiased_affine'] = unbiased
            sample['keypoints'] = np.array([dot], float)
            result = TopdownAffine()(sample)
            error = centroid(result['crop'][..., 0]) - result['keypoints'][0]
            assert np.abs(error).max() <= 0.6, (dot, error)

    def test_unscaled_and_unrotated_the_crop_is_the_image_s_pixels(self):
        image = picture(1)
        result = TopdownAffine()(sample_of(image, (50, 40), CROP_SIZE))
        np.testing.assert_array_equal(result['crop'], image[8:72, 26:74])

    def test_outside_the_image_is_black(self):
        image = np.full((90, 120, 3), 200, np.uint8)
        crop = TopdownAffine()(sample_of(image, (0, 0), CROP_SIZE))['crop']
        assert (crop[:32] == 0).all()
        assert (crop[:, :24] == 0).all()
        assert (crop[32:, 24:] == 200).all()

    @pytest.mark.parametrize('rotation', [0, 25, -70])
    @pytest.mark.parametrize('width', [120, 121])
    def test_flip_equals_mirroring_the_image_first(self, rotation, width):
        image = picture(2, (width, 90))
        keypoints = np.array([[10.0, 20.0], [70.5, 30.25], [40.0, 80.0]])
        visible = np.array([1, 0, 1], np.float32)
        order = np.array([1, 0, 2])
        center, scale = np.array([47.0, 41.5]), np.array([50.0, 70.0])
        labels = {'keypoints': keypoints, 'visible': visible, 'flip_indices': order}
        sample = sample_of(image, center, scale, **labels, rng=np.random.default_rng(0))
        flipped = TopdownAffine()({**RandomFlip(prob=1)(sample), 'rotation': rotation})

        mirrored = keypoints.copy()
        mirrored[:, 0] = width - 1 - mirrored[:, 0]
        reference = sample_of(
            np.ascontiguousarray(image[:, ::-1]), (width - 1 - center[0], center[1]), scale
        )
        reference |= {'keypoints': mirrored[order], 'visible': visible[order], 'rotation': rotation}
        expected = TopdownAffine()(reference)
        # 1: bilinear weights of the mirrored position are rounded from the other side
        assert np.abs(flipped['crop'].astype(int) - expected['crop']).max() <= 1
        np.testing.assert_allclose(flipped['keypoints'], expected['keypoints'], atol=1e-9)
        np.testing.assert_array_equal(flipped['visible'], [0, 1, 1])

    def test_the_affine_leads_from_the_flipped_crop_to_the_unmirrored_image(self):
        sample = sample_of(picture(), (47, 40), (50, 70), rng=np.random.default_rng(0))
        sample['keypoints'] = np.array([[30.0, 20.0]])
        result = TopdownAffine()({**RandomFlip(prob=1)(sample), 'rotation': 20})
        back = apply_affine(result['to_image'], result['keypoints'])
        np.testing.assert_allclose(back, [[30, 20]], atol=1e-9)

    def test_the_crop_s_memory_is_its_own(self):
        result = TopdownAffine()(sample_of(picture(), (50, 40), CROP_SIZE))
        assert result['crop'].flags['C_CONTIGUOUS']
        assert result['crop'].dtype == np.uint8
