"""What a dataset says of its keypoints, and what is derived from it."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.errors import DataError
from psa_pose.structures import COCO_KEYPOINTS, KeypointInfo, guess_sigmas, side_of

# https://github.com/cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py, Params.setKpParams.
COCO_SIGMAS = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72]
COCO_SIGMAS = [s / 10 for s in [*COCO_SIGMAS, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]]


def category_of(names, **more) -> dict:
    return {'id': 1, 'name': 'person', 'keypoints': list(names), **more}


def info_of(names, **more) -> KeypointInfo:
    return KeypointInfo.from_category(category_of(names, **more), 'some.json')


class TestRealCategories:
    def test_coco_s_category_is_what_we_know_of_coco(self, shared_data):
        path = shared_data / 'coco_mini/annotations/person_keypoints_dev.json'
        category = json.loads(path.read_text())['categories'][0]
        info = KeypointInfo.from_category(category, str(path))
        assert info.names == COCO_KEYPOINTS.names
        assert info.sigmas_source == 'coco'
        np.testing.assert_allclose(info.sigmas, COCO_SIGMAS, rtol=1e-12)
        assert {frozenset(b) for b in info.skeleton} == {
            frozenset(b) for b in COCO_KEYPOINTS.skeleton
        }

    def test_lspet_says_everything_itself(self, shared_data):
        path = shared_data / 'lspet/annotations/lspet_dev.json'
        category = json.loads(path.read_text())['categories'][0]
        info = KeypointInfo.from_category(category, str(path))
        assert info.num_keypoints == 14
        assert info.names == tuple(category['keypoints'])
        assert info.sigmas == tuple(category['sigmas'])
        assert info.sigmas_source == 'dataset'
        assert info.skeleton == tuple((a - 1, b - 1) for a, b in category['skeleton'])
        assert info.flip_indices == (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
        low = [name for name, is_low in zip(info.names, info.lower_body, strict=True) if is_low]
        assert Counter(n.split('_')[1] for n in low) == {'ankle': 2, 'knee': 2, 'hip': 2}


class TestCocoKeypoints:
    def test_sigmas_are_pycocotools(self):
        from pycocotools.cocoeval import Params

        np.testing.assert_allclose(COCO_KEYPOINTS.sigmas, Params('keypoints').kpt_oks_sigmas)

    def test_flip_indices_are_the_field_s(self):
        pairs = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)]
        expected = list(range(17))
        for a, b in pairs:
            expected[a], expected[b] = b, a
        assert COCO_KEYPOINTS.flip_indices == tuple(expected)

    def test_lower_body_is_hips_knees_ankles(self):
        assert np.flatnonzero(COCO_KEYPOINTS.lower_body).tolist() == [11, 12, 13, 14, 15, 16]


class TestFlipIndices:
    @pytest.mark.parametrize(
        ('left', 'right'),
        [
            ('left_knee', 'right_knee'),
            ('knee_left', 'knee_right'),
            ('left knee', 'right knee'),
            ('Left Knee', 'Right Knee'),
            ('kneeLeft', 'kneeRight'),
            ('LEFT_KNEE', 'RIGHT_KNEE'),
            ('leftKnee', 'rightKnee'),
            ('l_knee', 'r_knee'),
            ('L_Knee', 'R_Knee'),
            ('L.KNEE', 'R.KNEE'),
            ('LKnee', 'RKnee'),
            ('lKnee', 'rKnee'),
            ('knee-l', 'knee-r'),
            ('front_l_knee', 'front_r_knee'),
            ('kneeL', 'kneeR'),
        ],
    )
    def test_spellings_of_left_and_right(self, left, right):
        assert info_of(['nose', right, left]).flip_indices == (0, 2, 1)
        assert (side_of(left), side_of(right)) == ('left', 'right')
        assert guess_sigmas([left])[0] == ((0.087,) if 'front' not in left else (0.079,))

    def test_letters_that_say_no_side(self):
        for names in (['l', 'r'], ['lip', 'rip'], ['LIMB', 'RIMB'], ['tail', 'tair'], ['L1', 'R1']):
            assert info_of(names).flip_indices == (0, 1)
            assert not any(side_of(name) for name in names)

    def test_a_side_without_its_other_stays(self):
        assert info_of(['left_knee', 'nose']).flip_indices == (0, 1)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(['left_', 'right_', 'Left ', 'Right ', 'LEFT', 'RIGHT', '']),
                st.sampled_from(['eye', 'knee', 'paw', 'wing_tip', 'Ear']),
            ).map(''.join),
            min_size=1,
            max_size=20,
            unique=True,
        )
    )
    def test_it_is_an_involution_that_changes_sides(self, names):
        flip = info_of(names).flip_indices
        assert [flip[i] for i in flip] == list(range(len(names)))
        for name, mirror in zip(names, flip, strict=True):
            if names[mirror] != name:
                sides = {name.lower()[:4], names[mirror].lower()[:4]}
                assert sides == {'left', 'righ'}


class TestSigmas:
    def test_the_dataset_s_own_win(self):
        info = info_of(COCO_KEYPOINTS.names, sigmas=[0.05] * 17)
        assert (set(info.sigmas), info.sigmas_source) == ({0.05}, 'dataset')

    def test_coco_s_names_have_coco_s(self):
        assert guess_sigmas(COCO_KEYPOINTS.names) == (COCO_KEYPOINTS.sigmas, 'coco')

    def test_others_are_guessed_by_part_and_say_so(self):
        sigmas, source = guess_sigmas(['Left Knee', 'ankle_right', 'antler'])
        assert source == 'guessed'
        assert sigmas[:2] == (0.087, 0.089)
        assert min(COCO_KEYPOINTS.sigmas) < sigmas[2] < max(COCO_KEYPOINTS.sigmas)

    def test_coco_s_names_in_another_order_are_guessed(self):
        sigmas, source = guess_sigmas(COCO_KEYPOINTS.names[::-1])
        assert (sigmas, source) == (COCO_KEYPOINTS.sigmas[::-1], 'guessed')


class TestErrors:
    @pytest.mark.parametrize(
        ('category', 'reason'),
        [
            (category_of([]), 'lists no keypoints'),
            ({'id': 1, 'name': 'person'}, 'lists no keypoints'),
            (category_of(['a', 'b', 'a']), 'twice'),
            (category_of(['a', 'b'], skeleton=[[1, 3]]), r'outside 1\.\.2'),
            (category_of(['a', 'b'], skeleton=[[0, 1]]), r'outside 1\.\.2'),
            (category_of(['a', 'b'], sigmas=[0.1]), '2 positive sigmas'),
            (category_of(['a', 'b'], sigmas=[]), '2 positive sigmas'),
            (category_of(['a', 'b'], sigmas=[0.1, 0]), '2 positive sigmas'),
            (category_of(['a', 'b'], sigmas=[0.1, -1]), '2 positive sigmas'),
        ],
    )
    def test_what_cannot_be_right_names_the_file(self, category, reason):
        with pytest.raises(DataError, match=rf'^some\.json: .*{reason}'):
            KeypointInfo.from_category(category, 'some.json')
