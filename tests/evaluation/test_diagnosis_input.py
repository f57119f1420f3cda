"""Results and ground truths that cannot be diagnosed are named, with what is wrong."""

import json
import math

import pytest

from psa_pose.errors import DataError, ResultError
from psa_pose.evaluation.diagnosis import read_ground_truth, read_results
from tests.handmade import CATEGORY, coco_content, person_entry

ROW = {'image_id': 1, 'category_id': CATEGORY['id'], 'keypoints': [1.0] * 15, 'score': 0.5}


@pytest.fixture
def truth(tmp_path):
    return read_ground_truth(write(tmp_path, coco_content()))


def write(folder, content, name='truth.json'):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


class TestResults:
    def refused(self, tmp_path, truth, content, match):
        path = write(tmp_path, content, 'results.json')
        with pytest.raises(ResultError, match=rf'results\.json.*{match}'):
            read_results(path, truth)

    def test_rows_that_are_fine(self, tmp_path, truth):
        rows = [ROW, {**ROW, 'score': 1, 'keypoints': list(range(15)), 'more': 'ignored'}]
        detections = read_results(write(tmp_path, rows, 'results.json'), truth)
        assert detections.row.tolist() == [1, 0]
        assert detections.keypoints[0, 1].tolist() == [3, 4]

    def test_no_file(self, tmp_path, truth):
        with pytest.raises(ResultError, match=r'nowhere\.json: No such file'):
            read_results(tmp_path / 'nowhere.json', truth)

    @pytest.mark.parametrize(
        ('content', 'match'),
        [
            ('[{', 'not JSON'),
            ('\xff', 'not JSON'),
            ({'annotations': []}, 'expected a list of detections .* found dict'),
            ([], 'empty list'),
            ([ROW, 3], 'detection 1 lacks image_id, category_id, keypoints, score'),
            ([{k: v for k, v in ROW.items() if k != 'score'}], 'detection 0 lacks score'),
            ([{**ROW, 'category_id': 1}], 'category 1, but .* category 7'),
            ([{**ROW, 'image_id': '1'}], "whole number, got '1'"),
            ([{**ROW, 'image_id': 1.0}], 'whole number'),
            ([{**ROW, 'keypoints': [1.0] * 51}], 'detection 0 has 51 keypoint numbers.* makes 15'),
            ([{**ROW, 'keypoints': None}], 'detection 0 has None keypoint numbers'),
            (
                [ROW, {**ROW, 'keypoints': ['a'] * 15}],
                'detection 1: keypoints must be finite, found a',
            ),
            ([{**ROW, 'keypoints': [[1.0]] * 15}], r'keypoints must be finite, found \[1.0\]'),
            ([{**ROW, 'score': None}], 'detection 0: score must be finite, found None'),
            ([{**ROW, 'score': [1]}], r'detection 0: score must be finite, found \[1\]'),
            ([ROW, {**ROW, 'score': 10**400}], 'detection 1: score must be finite, found 1000'),
            ([ROW, {**ROW, 'image_id': 10**30}], 'detection 1 is about image id 1000'),
            ('[' * 100_000, 'not JSON'),
            ([ROW, {**ROW, 'image_id': 77}], 'detection 1 is about image id 77.* 1 of 2'),
            ([ROW, {**ROW, 'score': 0.4}, ROW], 'detections 0 and 2 are the same .*1 of 3'),
        ],
    )
    def test_bad(self, tmp_path, truth, content, match):
        self.refused(tmp_path, truth, content, match)

    @pytest.mark.parametrize('value', [math.nan, math.inf])
    def test_not_finite(self, tmp_path, truth, value):
        bad = {**ROW, 'keypoints': [*[1.0] * 14, value]}
        self.refused(tmp_path, truth, [ROW, bad], 'detection 1: keypoints must be finite')
        self.refused(tmp_path, truth, [{**ROW, 'score': value}], 'detection 0: score must be')


class TestGroundTruth:
    @pytest.mark.parametrize(
        ('changes', 'match'),
        [
            ({'keypoints': [1, 2, 2]}, 'annotation id 1: 3 keypoint numbers'),
            (
                {'keypoints': [None] * 15, 'num_keypoints': 3},
                'annotation id 1: keypoints that are not finite',
            ),
            ({'bbox': [1, 2]}, 'annotation id 1: bbox must be four finite numbers'),
            ({'bbox': [1, 2, math.nan, 3]}, 'annotation id 1: bbox'),
            ({'area': 0}, 'annotation id 1 has area 0'),
            ({'area': None}, 'annotation id 1 has area None'),
            ({'area': 'x'}, 'annotation id 1 has area x'),
            ({'keypoints': [0] * 15, 'num_keypoints': 0}, 'no usable person among 1'),
            ({'iscrowd': 1}, 'no usable person among 1'),
        ],
    )
    def test_bad_annotations(self, tmp_path, changes, match):
        path = write(tmp_path, coco_content([person_entry(**changes)]))
        with pytest.raises(DataError, match=rf'truth\.json.*{match}'):
            read_ground_truth(path)

    def test_an_image_that_is_not_there(self, tmp_path):
        content = coco_content([person_entry(3, image_id=5)])
        content['images'] = []
        with pytest.raises(DataError, match='annotation id 3: its image_id 5'):
            read_ground_truth(write(tmp_path, content))

    def test_other_categories_are_left_out(self, tmp_path):
        content = coco_content([person_entry(), person_entry(2, category_id=1, keypoints=[])])
        content['categories'].insert(0, {'id': 1, 'name': 'ball'})
        content['annotations'][1]['num_keypoints'] = 0
        assert read_ground_truth(write(tmp_path, content)).id.tolist() == [1]

    def test_fields_that_are_null(self, tmp_path):
        persons = [
            person_entry(1, num_keypoints=None, iscrowd=None),
            person_entry(2, keypoints=None, num_keypoints=None),
        ]
        truth = read_ground_truth(write(tmp_path, coco_content(persons)))
        assert truth.ignored.tolist() == [False, True]

    def test_persons_are_sorted_by_image(self, tmp_path):
        persons = [person_entry(i, image_id=image) for i, image in ((1, 3), (2, 1), (3, 3), (4, 2))]
        truth = read_ground_truth(write(tmp_path, coco_content(persons)))
        assert truth.id.tolist() == [2, 4, 1, 3]
