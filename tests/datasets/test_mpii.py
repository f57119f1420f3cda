"""MPII in the field's JSON layout: framed as published models expect it, and strict about files."""

import json

import cv2
import numpy as np
import pytest

from psa_pose.datasets import MpiiDataset
from psa_pose.datasets.sampling import SampleKey
from psa_pose.datasets.transforms import read_image
from psa_pose.errors import DataError
from psa_pose.structures import MPII_KEYPOINTS
from tests.handmade import COARSE_WARP, IMAGE_SIZE, picture

PLAIN = [{'type': 'LoadImage'}, {'type': 'TopdownAffine'}]
FLIPPED = [{'type': 'LoadImage'}, {'type': 'RandomFlip', 'prob': 1.0}, {'type': 'TopdownAffine'}]
JOINTS = [[10.0 + 3 * k, 20.0 + 2 * k] for k in range(16)]


def entry(**changes):
    whole = {
        'image': '1.png',
        'center': [50.0, 40.0],
        'scale': 0.3,
        'joints': JOINTS,
        'joints_vis': [1] * 16,
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def write(tmp_path, *entries):
    for name in {e.get('image') for e in entries if isinstance(e.get('image'), str)}:
        cv2.imwrite(str(tmp_path / name), picture()[..., ::-1])
    (tmp_path / 'mpii.json').write_text(json.dumps(entries))
    return tmp_path


def dataset_of(root, pipeline=PLAIN, **options):
    return MpiiDataset('mpii.json', pipeline, (256, 256), str(root), **options)


def five(shared_data, pipeline=PLAIN):
    return MpiiDataset(
        'annotations/mpii_five.json',
        pipeline,
        (256, 256),
        str(shared_data / 'mpii'),
        {'img': 'images'},
    )


class TestFrame:
    def test_the_box_is_the_field_s(self, tmp_path):
        """Sun et al. 2019: centre lowered by 15 scale, minus 1; side 1.25 x 200 x scale."""
        dataset = dataset_of(write(tmp_path, entry(center=[50.0, 40.0], scale=0.3)))
        x1, y1, x2, y2 = dataset.persons.bbox[0]
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((49, 43.5))
        assert (x2 - x1, y2 - y1) == pytest.approx((60, 60))
        assert dataset.crop_scale(0) == pytest.approx([75, 75])

    def test_real_ones_are_mmpose_s(self, shared_data):
        """Centre and side that MMPose 1.3's MpiiDataset and GetBBoxCenterScale give."""
        expected = [
            (965.0, 409.7773132324219, 1179.6220703125),
            (315.0, 245.42752075195312, 440.458740234375),
            (1029.0, 442.0885009765625, 784.8082885742188),
            (808.0, 450.733154296875, 812.21923828125),
            (697.0, 453.6219482421875, 843.698974609375),
        ]
        dataset = five(shared_data)
        for i, (x, y, side) in enumerate(expected):
            x1, y1, x2, y2 = dataset.persons.bbox[i].astype(float)
            found = ((x1 + x2) / 2, (y1 + y2) / 2, *dataset.crop_scale(i))
            assert found == pytest.approx((x, y, side, side), rel=2e-7)

    def test_joints_lose_one_and_lead_back(self, shared_data):
        content = json.loads((shared_data / 'mpii/annotations/mpii_five.json').read_text())
        for pipeline, key in ((PLAIN, None), (FLIPPED, 0)):
            dataset = five(shared_data, pipeline)
            order = list(dataset.info.flip_indices) if pipeline is FLIPPED else slice(None)
            for i, annotated in enumerate(content):
                sample = dataset[i if key is None else SampleKey(i, key)]
                seen = np.array(annotated['joints_vis'])[order] > 0
                assert (sample.visible > 0).tolist() == seen.tolist()
                back = sample.keypoints @ sample.to_image[:, :2].T + sample.to_image[:, 2]
                expected = np.array(annotated['joints'])[order] - 1
                np.testing.assert_allclose(back[seen], expected[seen], atol=1e-3)

    def test_flipping_mirrors_about_the_real_image(self, tmp_path):
        """The JSON says no image size; the crop of a flip is the crop of the mirrored image."""
        root = write(tmp_path, entry())
        flipped = dataset_of(root, FLIPPED)[SampleKey(0, 0)]
        mirrored = tmp_path / 'mirrored'
        mirrored.mkdir()
        write(mirrored, entry(center=[IMAGE_SIZE[0] + 1 - 50.0, 40.0]))
        cv2.imwrite(str(mirrored / '1.png'), cv2.imread(str(root / '1.png'))[:, ::-1])
        plain = dataset_of(mirrored)[0]
        difference = np.abs(flipped.crop.astype(int) - plain.crop.astype(int))
        assert difference.max() <= (8 if COARSE_WARP else 1)

    def test_the_first_pixel_is_one(self, tmp_path):
        sample = dataset_of(write(tmp_path, entry(joints=[[1.0, 1.0]] * 16)))[0]
        back = sample.keypoints @ sample.to_image[:, :2].T + sample.to_image[:, 2]
        np.testing.assert_allclose(back, 0, atol=1e-4)


class TestFile:
    def test_knows_its_keypoints_without_a_file(self, tmp_path):
        info = MpiiDataset.keypoint_info(tmp_path / 'nowhere.json')
        assert info == MPII_KEYPOINTS
        assert info.flip_indices == (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)
        assert np.flatnonzero(info.lower_body).tolist() == [0, 1, 2, 3, 4, 5, 6]

    def test_unlabelled_joints(self, tmp_path):
        seen = [1] * 15 + [0]
        joints = [*JOINTS[:15], [-1.0, -1.0]]
        persons = dataset_of(write(tmp_path, entry(joints=joints, joints_vis=seen))).persons
        assert persons.keypoints[0, :, 2].tolist() == [2] * 15 + [0]
        assert persons.keypoints[0, 15].tolist() == [0, 0, 0]

    def test_test_images_have_no_joints(self, tmp_path):
        dataset = dataset_of(write(tmp_path, entry(joints=None, joints_vis=None)))
        assert dataset[0].visible.sum() == 0

    def test_a_person_without_a_centre_is_left_out(self, tmp_path):
        dataset = dataset_of(write(tmp_path, entry(), entry(center=[-1, -1]), entry(image='2.png')))
        assert dataset.persons.id.tolist() == [0, 2]
        assert (dataset.entries, len(dataset)) == (3, 2)
        assert dataset.persons.image_id.tolist() == [0, 1]

    def test_head_boxes(self, tmp_path):
        dataset = dataset_of(write(tmp_path, entry(headbox=[10, 10, 13, 14]), entry()))
        assert dataset.head_size[0] == pytest.approx(3.0)
        assert np.isnan(dataset.head_size[1])

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'joints': JOINTS[:14]}, r"'joints' must be 16 x 2 finite numbers"),
            ({'joints': 'none'}, r"'joints' must be 16 x 2 finite numbers, got none"),
            ({'joints_vis': None}, r"'joints_vis' must be 16 finite numbers, got None"),
            ({'center': [1, float('nan')]}, r"'center' must be 2 finite numbers"),
            ({'center': None}, r"'center' must be 2 finite numbers, got None"),
            ({'scale': 'big'}, r"'scale' must be a finite number, got big"),
            ({'scale': 0}, r'scale must be above 0, got 0'),
            ({'image': None}, r"'image' must be a file name"),
            ({'headbox': [1, 2, 3]}, r"'headbox' must be 4 finite numbers"),
            ({'headbox': [5, 5, 5, 5]}, r'headbox .* is empty'),
        ],
    )
    def test_a_bad_entry_is_named(self, tmp_path, changes, said):
        root = write(tmp_path, entry(), entry(**changes))
        with pytest.raises(DataError, match=r'mpii\.json: entry 1: ' + said):
            dataset_of(root)

    @pytest.mark.parametrize(
        ('text', 'said'),
        [
            ('{"images": [], "annotations": []}', "COCO's format"),
            ('{}', 'not a list of persons'),
            ('[1, 2]', 'not a list of persons'),
            ('[', 'not JSON'),
            ('[]', 'no usable person among 0'),
        ],
    )
    def test_another_format_is_refused(self, tmp_path, text, said):
        (tmp_path / 'mpii.json').write_text(text)
        with pytest.raises(DataError, match=said):
            dataset_of(tmp_path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r'mpii\.json: No such file'):
            dataset_of(tmp_path)


def test_the_crops_show_the_person(shared_data):
    """A keypoint's colour in the crop is its colour in the image, wherever it can be seen."""
    dataset = five(shared_data)
    for i in range(5):
        sample = dataset[i]
        image = read_image(dataset.image_root / dataset.persons.file_name[i].decode())
        labels = dataset.persons.keypoints[i]
        for (x, y), (u, v, seen) in zip(sample.keypoints, labels, strict=True):
            inside = 2 <= x < 253 and 2 <= y < 253 and v + 3 < image.shape[0]
            if not seen or not inside:
                continue
            near = sample.crop[round(float(y)), round(float(x))].astype(float)
            step = int(np.ceil(dataset.crop_scale(i)[0] / 256))
            around = image[
                max(int(v) - step, 0) : int(v) + step + 2, max(int(u) - step, 0) : int(u) + step + 2
            ]
            low, high = around.min((0, 1)), around.max((0, 1))
            assert (near >= low - 1.0).all() and (near <= high + 1.0).all()
