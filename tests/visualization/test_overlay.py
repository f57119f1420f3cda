"""Maps lie where they belong, sheets hold their pictures whole, files are what they are called."""

import cv2
import numpy as np
import pytest

from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.datasets.transforms import read_image
from psa_pose.errors import ConfigError
from psa_pose.visualization import contact_sheet, overlay
from psa_pose.visualization.overlay import lines, save, write
from tests.handmade import picture


def brightest(image):
    """x and y of the yellowest pixel."""
    yellow = image[..., :2].astype(int).sum(-1) - 2 * image[..., 2].astype(int)
    y, x = np.unravel_index(yellow.argmax(), yellow.shape)
    return x, y


class TestOverlay:
    @pytest.mark.parametrize('codec', [MSRAHeatmap, UDPHeatmap])
    def test_a_peak_lies_where_the_codec_puts_it(self, codec):
        codec = codec(input_size=(96, 128), heatmap_size=(24, 32))
        values = np.zeros((32, 24), np.float32)
        values[20, 7] = 1
        shown = overlay(np.zeros((128, 96, 3), np.uint8), values, stride=codec.stride)
        wanted = np.array([7, 20]) * codec.stride
        assert np.abs(brightest(shown) - wanted).max() <= 0.5

    def test_where_a_map_is_low_the_grey_picture_shows(self):
        image = picture(1)
        values = np.zeros((90, 120))
        values[10:20, 10:20] = 2
        shown = overlay(image, values)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        np.testing.assert_array_equal(shown[40:], np.repeat(grey[40:, :, None], 3, 2))
        assert (shown[12:18, 12:18, 2] < shown[12:18, 12:18, 0]).all()

    def test_without_fading_all_of_it_is_covered(self):
        image = np.full((40, 40, 3), 255, np.uint8)
        shown = overlay(image, np.linspace(0, 1, 40)[None].repeat(40, 0), fade=False)
        assert (shown[..., 2] < 250).all()
        light = shown.astype(int).sum(-1)[20]
        assert light[-1] > light[0]

    def test_bounds_are_kept_to(self):
        image = np.zeros((8, 8, 3), np.uint8)
        half = overlay(image, np.full((8, 8), 0.5), low=0, high=1)
        whole = overlay(image, np.full((8, 8), 1.5), low=0, high=1)
        assert whole[4, 4, 0] > half[4, 4, 0] > 0

    @pytest.mark.filterwarnings('error')
    def test_what_is_no_number_shows_the_picture(self):
        image = np.full((20, 20, 3), 90, np.uint8)
        values = np.ones((20, 20))
        values[:, :10] = np.nan
        values[0, 0] = np.inf
        shown = overlay(image, values, low=0)
        assert (shown[:, :8] == 90).all()
        assert (shown[:, 12:] != 90).any(-1).all()
        assert (overlay(image, np.full((5, 5), np.nan)) == 90).all()


class TestContactSheet:
    def test_every_picture_is_there_whole(self):
        images = [picture(i, (40 + 8 * i, 32 + 16 * (i % 3))) for i in range(5)]
        sheet = contact_sheet(images, 3, [f'number {i}' for i in range(5)])
        for image in images:
            match = cv2.matchTemplate(sheet, image, cv2.TM_SQDIFF)
            assert match.min() < 1e-4 * match.max()

    def test_words_stand_below_and_within_the_column(self):
        sheet = contact_sheet([np.zeros((20, 100, 3), np.uint8)], 1, ['some longer words ' * 4])
        below = (sheet[24:] < 128).any(-1)
        assert below.any()
        assert not below[:, -2:].any()
        assert len(lines('some longer words ' * 4, 100)) > 2
        assert contact_sheet([np.zeros((20, 100, 3), np.uint8)], 1).shape[0] < 40

    def test_letters_that_the_font_lacks(self):
        assert contact_sheet([picture(1)], 4, ['左肩 épaule']).shape[2] == 3

    def test_nothing_is_no_sheet(self):
        with pytest.raises(ValueError, match='0 pictures in 2 columns'):
            contact_sheet([], 2)

    def test_text_has_a_ground(self):
        image = np.full((30, 90, 3), 200, np.uint8)
        write(image, 'word', (10, 20), (255, 255, 255), (0, 0, 0))
        assert (image == 0).all(-1).any()
        assert (image.astype(int).sum(-1) > 700).any()
        assert (image[:, 80:] == 200).all()


class TestSave:
    def test_a_png_is_the_picture(self, tmp_path):
        save(tmp_path / 'new/a.png', picture(3))
        np.testing.assert_array_equal(read_image(tmp_path / 'new/a.png'), picture(3))

    @pytest.mark.parametrize('name', ['a', 'a.txt', 'a.jpg.'])
    def test_other_endings_are_refused(self, tmp_path, name):
        with pytest.raises(ConfigError, match=r'ends in one of \.png, '):
            save(tmp_path / name, picture(3))
        assert not list(tmp_path.iterdir())
