"""COCO-style JSON as arrays: what is kept, what is left out, and errors that name the culprit."""

import itertools
import json
import math
from dataclasses import fields

import numpy as np
import pytest

from psa_pose.datasets.annotations import (
    Annotations,
    Persons,
    keypoint_category,
    read_annotations,
    read_json,
    read_keypoint_info,
    usable_persons,
)
from psa_pose.errors import DataError
from psa_pose.structures import KeypointInfo
from tests.handmade import CATEGORY, KEYPOINTS, coco_content, image_entry, person_entry


def persons_of(tmp_path, content):
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    return usable_persons(read_json(path), path)


class TestArrays:
    def test_every_column_of_every_person(self, tmp_path):
        others = [*KEYPOINTS[:-3], 61.5, 71.25, 1]
        content = coco_content(
            [
                person_entry(11, image_id=4, bbox=[20.5, 10, 60, 70]),
                person_entry(2**40, image_id=3, bbox=[0, 0, 10, 20], keypoints=others),
            ],
            [
                image_entry(3, file_name='sub/drei.png'),
                image_entry(4, file_name='vier.png', width=200),
            ],
        )
        persons = persons_of(tmp_path, content)
        assert len(persons) == 2
        assert persons.id.tolist() == [11, 2**40]
        assert persons.image_id.tolist() == [4, 3]
        assert persons.image_size.tolist() == [[200, 90], [120, 90]]
        assert [name.decode() for name in persons.file_name] == ['vier.png', 'sub/drei.png']
        assert persons.bbox.tolist() == [[20.5, 10, 80.5, 80], [0, 0, 10, 20]]
        assert persons.box_score.tolist() == [1, 1]
        assert persons.keypoints.reshape(2, -1).tolist() == [KEYPOINTS, others]

    def test_dtypes_and_shapes(self, tmp_path):
        persons = persons_of(tmp_path, coco_content())
        assert persons.id.dtype == persons.image_id.dtype == np.int64
        assert (persons.bbox.dtype, persons.bbox.shape) == (np.float32, (1, 4))
        assert (persons.keypoints.dtype, persons.keypoints.shape) == (np.float32, (1, 5, 3))
        assert persons.file_name.dtype.kind == 'S'

    def test_file_names_beyond_ascii_survive(self, tmp_path):
        content = coco_content(images=[image_entry(1, file_name='Läufer/走る.png')])
        assert persons_of(tmp_path, content).file_name[0].decode() == 'Läufer/走る.png'

    @pytest.mark.parametrize(
        ('bbox', 'expected'),
        [
            ([-10, -5, 60, 50], [0, 0, 50, 45]),
            ([100, 80, 60, 50], [100, 80, 119, 89]),
            ([-5, -5, 500, 500], [0, 0, 119, 89]),
        ],
    )
    def test_boxes_are_clipped_to_the_last_pixel(self, tmp_path, bbox, expected):
        persons = persons_of(tmp_path, coco_content([person_entry(bbox=bbox)]))
        assert persons.bbox[0].tolist() == expected

    def test_real_files_keep_every_usable_person(self, shared_data):
        path = shared_data / 'coco_mini/annotations/person_keypoints_dev.json'
        content = read_json(path)
        persons = usable_persons(content, path)
        ids = [a['id'] for a in content['annotations'] if not a['iscrowd'] and a['num_keypoints']]
        assert persons.id.tolist() == ids
        assert len(persons) == 80
        sizes = persons.image_size.astype(np.float32)
        assert (persons.bbox >= 0).all()
        assert (persons.bbox[:, 2:] <= sizes - 1).all()
        assert (persons.bbox[:, 2:] > persons.bbox[:, :2]).all()


class TestReadLean:
    """`read_annotations` keeps little in memory, and says and gives what `read_json` does."""

    def agree(self, tmp_path, content):
        path = tmp_path / 'some.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        answers = []
        for read in (self.whole, read_annotations):
            try:
                answers.append(as_lists(read(path)))
            except DataError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]
        return answers[0]

    @staticmethod
    def whole(path):
        content = read_json(path)
        category = keypoint_category(content, path)
        info = KeypointInfo.from_category(category, str(path))
        return Annotations(info, category['id'], usable_persons(content, path))

    @pytest.mark.parametrize(
        'order', [*itertools.permutations(('images', 'annotations', 'categories'))]
    )
    def test_in_any_order_of_the_lists(self, tmp_path, order):
        content = coco_content([person_entry(5), person_entry(6, segmentation=[[1, 2] * 50])])
        found = self.agree(tmp_path, {'info': {}, **{key: content[key] for key in order}})
        assert found[2]['id'] == [5, 6]

    @pytest.mark.parametrize(
        'change',
        [
            lambda c: c['annotations'].append(c['annotations'][0]),
            lambda c: c['images'].append(5),
            lambda c: c['annotations'][0].update(keypoints=[1]),
            lambda c: c['annotations'][0].update(bbox=[1, 2, 3, math.nan]),
            lambda c: c['annotations'][0].update(area=math.nan),
            lambda c: c['annotations'][0].update(image_id=[7]),
            lambda c: c.update(categories={}),
            lambda c: c.update(annotations=5),
            lambda c: c['annotations'].clear(),
        ],
    )
    def test_of_what_is_wrong(self, tmp_path, change):
        content = coco_content([person_entry(1), person_entry(2)])
        change(content)
        self.agree(tmp_path, content)

    def test_real_files(self, tmp_path, shared_data):
        for path in sorted(shared_data.glob('*/annotations/*train*.json')):
            self.agree(tmp_path, path.read_text())


def as_lists(found):
    arrays = {f.name: getattr(found.persons, f.name).tolist() for f in fields(Persons)}
    return found.info, found.category_id, arrays


class TestLeftOut:
    @pytest.mark.parametrize(
        'changes',
        [
            {'iscrowd': 1},
            {'keypoints': [0] * 15},
            {'keypoints': None},
            {'category_id': 8},
            {'bbox': None},
            {'bbox': [130, 10, 20, 20]},
            {'bbox': [-30, 10, 20, 20]},
            {'bbox': [10, 95, 20, 20]},
            {'bbox': [10, 10, 0, 20]},
            {'bbox': [10, 10, 20, -5]},
        ],
    )
    def test_who_cannot_be_used_is_left_out_alone(self, tmp_path, changes):
        content = coco_content([person_entry(1), person_entry(2, **changes), person_entry(3)])
        assert persons_of(tmp_path, content).id.tolist() == [1, 3]

    def test_annotations_of_other_categories_need_no_keypoints(self, tmp_path):
        ball = {'id': 2, 'image_id': 1, 'category_id': 37, 'bbox': [1, 1, 5, 5], 'area': 25}
        categories = [{'id': 37, 'name': 'ball'}, CATEGORY]
        content = coco_content([person_entry(1), ball], categories=categories)
        assert persons_of(tmp_path, content).id.tolist() == [1]


class TestErrors:
    """Each names the file, and the annotation where there is one."""

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r'nowhere\.json: No such file'):
            read_json(tmp_path / 'nowhere.json')

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(DataError, match='Is a directory'):
            read_json(tmp_path)

    @pytest.mark.parametrize('data', [b'', b'{"images": [', b'\xff\xd8\xff\xe0'])
    def test_not_json(self, tmp_path, data):
        path = tmp_path / 'broken.json'
        path.write_bytes(data)
        with pytest.raises(DataError, match=r'broken\.json is not JSON'):
            read_json(path)

    @pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
    @pytest.mark.parametrize('value', [None, {}, 'text'])
    def test_json_that_is_not_coco_s(self, tmp_path, key, value):
        path = tmp_path / 'other.json'
        path.write_text(json.dumps({**coco_content(), key: value}))
        with pytest.raises(DataError, match=rf"other\.json has no list '{key}'"):
            read_json(path)

    @pytest.mark.parametrize('content', [[], [1], 5, None])
    def test_json_that_is_no_object(self, tmp_path, content):
        path = tmp_path / 'other.json'
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r'other\.json has no list'):
            read_json(path)

    @pytest.mark.parametrize(
        'categories', [[], [{'id': 1, 'name': 'ball'}], [CATEGORY, {**CATEGORY, 'id': 8}]]
    )
    def test_not_exactly_one_category_with_keypoints(self, tmp_path, categories):
        path = tmp_path / 'some.json'
        content = coco_content(categories=categories)
        with pytest.raises(DataError, match=r'some\.json: expected one category with keypoints'):
            keypoint_category(content, path)
        with pytest.raises(DataError, match='expected one category with keypoints'):
            usable_persons(content, path)

    @pytest.mark.parametrize('count', [12, 16, 0, 51])
    def test_wrong_number_of_keypoints(self, tmp_path, count):
        content = coco_content([person_entry(1), person_entry(77, keypoints=[1] * count)])
        with pytest.raises(DataError, match=rf'id 77: {count} keypoint numbers, .* 3 x 5 = 15'):
            persons_of(tmp_path, content)

    @pytest.mark.parametrize('value', [math.nan, math.inf])
    def test_keypoints_that_are_not_finite(self, tmp_path, value):
        content = coco_content([person_entry(77, keypoints=[value, *KEYPOINTS[1:]])])
        with pytest.raises(DataError, match=r'annotations\.json: annotation id 77: .*not finite'):
            persons_of(tmp_path, content)

    @pytest.mark.parametrize('bbox', [[1, 2, 3], [1, 2, 3, 4, 5], [1, math.nan, 3, 4], []])
    def test_boxes_that_are_not_four_numbers(self, tmp_path, bbox):
        with pytest.raises(DataError, match='id 77: bbox must be four finite numbers'):
            persons_of(tmp_path, coco_content([person_entry(77, bbox=bbox)]))

    def test_a_person_of_no_known_image(self, tmp_path):
        content = coco_content([person_entry(77, image_id=5)], [image_entry(1)])
        with pytest.raises(DataError, match="id 77: its image_id 5 is not among 'images'"):
            persons_of(tmp_path, content)

    def test_nobody_left(self, tmp_path):
        content = coco_content([person_entry(1, iscrowd=1), person_entry(2, keypoints=[0] * 15)])
        with pytest.raises(DataError, match='no usable person among 2 annotations'):
            persons_of(tmp_path, content)

    @pytest.mark.parametrize(
        'changes',
        [
            {'keypoints': ['a', *KEYPOINTS[1:]]},
            {'keypoints': [None, *KEYPOINTS[1:]]},
            {'bbox': ['a', 2, 3, 4]},
            {'bbox': 'abcd'},
            {'bbox': 5},
        ],
    )
    def test_what_is_no_number(self, tmp_path, changes):
        with pytest.raises(DataError, match='id 77'):
            persons_of(tmp_path, coco_content([person_entry(77, **changes)]))

    @pytest.mark.parametrize('key', ['width', 'height', 'file_name', 'id'])
    def test_an_image_that_lacks_something(self, tmp_path, key):
        image = {k: v for k, v in image_entry().items() if k != key}
        with pytest.raises(DataError, match=rf"annotations\.json: .*'?{key}"):
            persons_of(tmp_path, coco_content([person_entry()], [image]))

    @pytest.mark.parametrize(
        'changes',
        [{'width': '640'}, {'height': 2.5}, {'width': 0}, {'file_name': 5}, {'id': 2**70}],
    )
    def test_an_image_that_is_described_wrongly(self, tmp_path, changes):
        image = image_entry(**changes)
        content = coco_content([person_entry(77, image_id=image['id'])], [image])
        with pytest.raises(DataError, match=r'id 77: its image .* expected whole numbers'):
            persons_of(tmp_path, content)

    @pytest.mark.parametrize('changes', [{'id': 2**70}, {'id': 'a'}, {'keypoints': 5}])
    def test_what_would_not_fit_the_arrays(self, tmp_path, changes):
        with pytest.raises(DataError, match=r'annotations\.json'):
            persons_of(tmp_path, coco_content([person_entry(**changes)]))

    def test_json_nested_too_deeply(self, tmp_path):
        path = tmp_path / 'deep.json'
        path.write_text('{"images": ' + '[' * 200_000)
        for read in (read_json, read_annotations):
            with pytest.raises(DataError, match=r'deep\.json is not JSON'):
                read(path)

    def test_a_person_without_an_id(self, tmp_path):
        person = {k: v for k, v in person_entry().items() if k != 'id'}
        with pytest.raises(DataError, match=r'annotations\.json: .*id'):
            persons_of(tmp_path, coco_content([person]))


class TestKeypointInfo:
    def test_of_a_file(self, tmp_path):
        path = tmp_path / 'some.json'
        path.write_text(json.dumps(coco_content()))
        info = read_keypoint_info(path)
        assert info.names == tuple(CATEGORY['keypoints'])
        assert info.skeleton == ((0, 1), (0, 2))
        assert info.flip_indices == (0, 2, 1, 4, 3)
        assert info.lower_body.tolist() == [False, False, False, True, True]


class TestIds:
    @pytest.mark.parametrize('key', ['images', 'annotations'])
    def test_one_that_occurs_twice(self, tmp_path, key):
        content = coco_content([person_entry(5), person_entry(6)])
        content[key].append(dict(content[key][0]))
        with pytest.raises(DataError, match=f'{key}: id {content[key][0]["id"]} occurs twice'):
            persons_of(tmp_path, content)

    def test_an_entry_that_is_no_object(self, tmp_path):
        content = coco_content()
        content['images'].append('a.jpg')
        with pytest.raises(DataError, match=r'images: an entry that is no object: a\.jpg'):
            persons_of(tmp_path, content)
