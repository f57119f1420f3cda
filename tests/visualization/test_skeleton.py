"""Skeletons land where they belong, in their side's colour; a picture for each image."""

import cv2
import numpy as np
import pytest

from psa_pose.datasets import CocoStyleDataset
from psa_pose.datasets.transforms import read_image
from psa_pose.evaluation import CocoMetric
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo
from psa_pose.visualization import draw_pose, draw_results
from psa_pose.visualization.skeleton import LEFT, MIDDLE, RIGHT, side_color
from tests.handmade import coco_content, image_entry, person_entry, picture, write_dataset

INFO = KeypointInfo(
    ('nose', 'left_hand', 'right_hand', 'left_foot'), ((0, 1), (0, 2), (1, 3)), (0.1,) * 4
)
POINTS = np.array([[60.0, 20], [20, 80], [100, 80], [20, 110]])
GREY = 128


def canvas(width=120, height=120):
    return np.full((height, width, 3), GREY, np.uint8)


def drawn_on(points=POINTS, drawn=(True,) * 4, size=100, image=None, info=INFO):
    image = canvas() if image is None else image
    draw_pose(image, points, np.array(drawn), info, size)
    return image


def touched(image):
    return (image != GREY).any(-1)


class TestColours:
    @pytest.mark.parametrize(
        ('names', 'color'),
        [
            (('left_hand',), LEFT),
            (('Right Knee',), RIGHT),
            (('nose',), MIDDLE),
            (('left_hip', 'left_knee'), LEFT),
            (('nose', 'right_eye'), RIGHT),
            (('left_hip', 'right_hip'), MIDDLE),
        ],
    )
    def test_of_a_side(self, names, color):
        assert side_color(names) == color

    def test_keypoints_and_bones_have_their_side_s(self):
        image = drawn_on(size=200)
        for point, color in zip(POINTS.astype(int), (MIDDLE, LEFT, RIGHT, LEFT), strict=True):
            assert tuple(image[point[1], point[0]]) == color
        assert tuple(image[50, 40]) == LEFT  # half-way from the nose to the left hand
        assert tuple(image[50, 80]) == RIGHT


class TestDrawing:
    def test_undrawn_keypoints_leave_no_trace(self):
        assert not touched(drawn_on(drawn=(False,) * 4)).any()

    def test_a_bone_with_an_undrawn_end_is_left_out(self):
        image = drawn_on(drawn=(False, True, True, False))
        marks = touched(image)
        assert marks[80, 20]
        assert marks[80, 100]
        assert not marks[:70].any()
        marks = touched(drawn_on(drawn=(True, False, True, False)))
        assert marks[:, 60:].any()
        assert not marks[:, :50].any()

    @pytest.mark.filterwarnings('error')
    def test_undrawn_keypoints_may_be_anything(self):
        points = POINTS.copy()
        points[3] = np.nan
        image = drawn_on(points, drawn=(True, True, True, False))
        np.testing.assert_array_equal(image, drawn_on(drawn=(True, True, True, False)))

    @pytest.mark.parametrize('size', [1, 10, 100, 400])
    def test_nothing_is_drawn_far_from_the_skeleton(self, size):
        marks = touched(drawn_on(size=size))
        rows, columns = np.nonzero(marks)
        reach = max(1, round(size / 80)) + 3  # radius of a keypoint, its rim and smoothing
        assert rows.min() >= 20 - reach
        assert rows.max() <= 110 + reach
        assert columns.min() >= 20 - reach
        assert columns.max() <= 100 + reach
        assert marks[20, 60]

    def test_larger_persons_have_wider_lines(self):
        areas = [touched(drawn_on(size=size)).sum() for size in (40, 160, 400)]
        assert areas[0] < areas[1] < areas[2]

    @pytest.mark.parametrize('offset', [-1000, 70, 1000, 1e5, 1e12])
    def test_keypoints_outside_the_image_are_cut_off(self, offset):
        image = drawn_on(POINTS + offset)
        assert image.shape == (120, 120, 3)

    def test_positions_are_subpixel(self):
        images = [drawn_on(POINTS + np.array([shift, 0])) for shift in (0, 0.25, 0.5)]
        assert not np.array_equal(images[0], images[1])
        assert not np.array_equal(images[1], images[2])

    def test_colour_blind_safe_sides_differ_in_brightness_too(self):
        luma = [np.dot(color, (0.299, 0.587, 0.114)) for color in (LEFT, RIGHT, MIDDLE)]
        assert min(abs(luma[0] - luma[1]), abs(luma[1] - luma[2])) > 30

    def test_coco_s_skeleton_is_drawable(self):
        points = np.random.default_rng(0).uniform(0, 120, (17, 2))
        assert touched(drawn_on(points, (True,) * 17, info=COCO_KEYPOINTS)).any()


class TestResults:
    def metric(self, root, content):
        path = write_dataset(root, content)
        dataset = CocoStyleDataset(path.name, [], (48, 64), str(root))
        metric = CocoMetric(dataset)
        keypoints = dataset.persons.keypoints
        metric.process(
            np.arange(len(dataset)),
            np.ones(len(dataset), bool),
            keypoints[..., :2].astype(float),
            np.ones(keypoints.shape[:2]),
        )
        return metric

    def test_one_picture_an_image(self, tmp_path):
        persons = [person_entry(1, 1), person_entry(2, 1, bbox=[0, 0, 40, 40]), person_entry(3, 2)]
        metric = self.metric(tmp_path, coco_content(persons))
        out = tmp_path / 'out'
        assert draw_results(metric, out) == 2
        assert sorted(p.name for p in out.rglob('*') if p.is_file()) == ['1_1.jpg', '2_2.jpg']
        pictures = [read_image(p) for p in out.iterdir()]
        assert all(p.shape[1] > p.shape[0] for p in pictures)  # two side by side

    def test_truth_left_and_prediction_right_agree_where_predictions_are_perfect(self, tmp_path):
        metric = self.metric(tmp_path, coco_content())
        draw_results(metric, tmp_path / 'out')
        image = read_image(tmp_path / 'out/1_1.jpg').astype(int)
        left, right = np.split(image, 2, axis=1)
        assert np.abs(left - right).mean() < 2  # JPEG blocks at the seam

    def test_unsure_keypoints_are_not_drawn(self, tmp_path):
        metric = self.metric(tmp_path, coco_content())
        draw_results(metric, tmp_path / 'out', score_thr=1.5)
        image = read_image(tmp_path / 'out/1_1.jpg').astype(float)
        left, right = np.split(image, 2, axis=1)
        caption = [(side[:28] < 60).all(-1).sum() for side in (left, right)]
        assert caption[1] > 1.5 * caption[0]  # the prediction's says how many are left out
        height, width = right.shape[:2]
        plain = cv2.resize(picture(1), (width, height), interpolation=cv2.INTER_CUBIC)
        for x, y in metric.dataset.persons.keypoints[0, [0, 1, 2, 4], :2]:
            column, row = (int((v + 0.5) * height / 90) for v in (x, y))
            near = np.s_[row - 3 : row + 4, column - 3 : column + 4]
            assert np.abs(right[near] - plain[near]).mean() < 10  # JPEG alone; a keypoint: 40

    def test_folders_of_images_are_kept_apart(self, tmp_path):
        images = [image_entry(1, file_name='a/x.png'), image_entry(2, file_name='b/x.png')]
        metric = self.metric(
            tmp_path, coco_content([person_entry(1, 1), person_entry(2, 2)], images)
        )
        assert draw_results(metric, tmp_path / 'out') == 2
        assert len(list((tmp_path / 'out').rglob('*.jpg'))) == 2

    def test_images_that_differ_in_their_ending_alone_are_kept_apart(self, tmp_path):
        images = [image_entry(1, file_name='x.png'), image_entry(2, file_name='x.bmp')]
        metric = self.metric(
            tmp_path, coco_content([person_entry(1, 1), person_entry(2, 2)], images)
        )
        assert draw_results(metric, tmp_path / 'out') == 2
        assert len(list((tmp_path / 'out').iterdir())) == 2
