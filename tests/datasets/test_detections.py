"""A detector's boxes: what is read, what is left out and counted, errors that name the entry."""

import json

import numpy as np
import pytest

from psa_pose.datasets import CocoDataset, CocoStyleDataset
from psa_pose.datasets.detections import describe, read_detections
from psa_pose.errors import DataError
from psa_pose.structures import COCO_KEYPOINTS
from tests.handmade import CATEGORY, coco_content, image_entry, person_entry, write_dataset

ANN_FILE = 'annotations.json'


def detection(image_id=1, **changes):
    entry = {'image_id': image_id, 'category_id': 7, 'bbox': [20.5, 10, 30, 40.25], 'score': 0.5}
    return {**entry, **changes}


def read(tmp_path, entries, score_thr=0.0, content=None):
    path = tmp_path / 'boxes.json'
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    content = content or coco_content([person_entry()], [image_entry(1), image_entry(2, width=50)])
    return read_detections(path, content, tmp_path / ANN_FILE, 7, 5, score_thr)


class TestPersons:
    def test_every_column(self, tmp_path):
        entries = [
            detection(2, score=0.25),
            detection(category_id=1),
            detection(1, bbox=[-3, 5, 20, 30]),
        ]
        found = read(tmp_path, entries)
        persons = found.persons
        assert persons.id.tolist() == [0, 2]  # rows of the file
        assert persons.image_id.tolist() == [2, 1]
        assert persons.image_size.tolist() == [[50, 90], [120, 90]]
        assert persons.file_name.tolist() == [b'2.png', b'1.png']
        assert persons.bbox.tolist() == [[20.5, 10, 50.5, 50.25], [-3, 5, 17, 35]]  # not clipped
        assert persons.box_score.tolist() == [0.25, 0.5]
        assert persons.keypoints.shape == (2, 5, 3) and not persons.keypoints.any()
        assert [a.dtype for a in (persons.id, persons.bbox, persons.box_score)] == [
            np.int64,
            np.float32,
            np.float32,
        ]

    def test_images_without_annotated_persons_count(self, tmp_path):
        assert read(tmp_path, [detection(2)]).persons.image_id.tolist() == [2]

    def test_image_ids_of_any_size(self, tmp_path):
        content = coco_content([], [image_entry(2**40)])
        assert read(tmp_path, [detection(2**40)], content=content).persons.image_id[0] == 2**40

    def test_the_source_names_file_count_and_threshold(self, tmp_path):
        entries = [detection(bbox=[i, 1, 9, 9]) for i in range(4)]
        assert read(tmp_path, entries).source == 'detections boxes.json (4, score > 0.0)'
        entries.append(detection(bbox=[0, 0, 0, 5]))
        found = read(tmp_path, entries, score_thr=0.3)
        assert found.source == 'detections boxes.json (4 of 5, score > 0.3)'


class TestLeftOut:
    @pytest.mark.parametrize(
        ('entry', 'reason'),
        [
            (detection(category_id=1), 'of other categories'),
            (detection(bbox=[5, 5, 0, 9]), 'of zero size'),
            (detection(bbox=[5, 5, 9, -1]), 'of zero size'),
            (detection(bbox=[500.123, 5, 1e-6, 9]), 'of zero size'),  # in float32
            (detection(bbox=[120, 5, 9, 9]), 'outside their image'),
            (detection(bbox=[-30, 5, 30, 9]), 'outside their image'),
            (detection(bbox=[5, -30, 9, 20]), 'outside their image'),
            (detection(score=0), 'with a score not above 0.0'),
            (detection(), 'doubles (same image, same box)'),
        ],
        ids=lambda value: value if isinstance(value, str) else '',
    )
    def test_it_is_counted(self, tmp_path, entry, reason):
        found = read(tmp_path, [detection(), entry])
        assert found.skipped == {reason: 1}
        assert len(found.persons) == 1
        assert describe(found.skipped) == f'1 {reason}'

    def test_nothing(self, tmp_path):
        found = read(tmp_path, [detection(), detection(2)])
        assert found.skipped == {} and describe(found.skipped) == ''

    def test_each_once(self, tmp_path):
        entries = [detection(), detection(bbox=[5, 5, 0, 9], score=0), detection(bbox=[5, 5, 0, 9])]
        assert read(tmp_path, entries).skipped == {'of zero size': 2}

    def test_of_doubles_the_best_stays(self, tmp_path):
        entries = [detection(score=s) for s in (0.2, 0.9, 0.4)] + [detection(2, score=0.1)]
        found = read(tmp_path, entries)
        assert found.persons.box_score.tolist() == pytest.approx([0.9, 0.1])
        assert found.persons.id.tolist() == [1, 3]

    def test_the_threshold_is_exclusive(self, tmp_path):
        entries = [detection(bbox=[i, 1, 9, 9], score=s) for i, s in enumerate((0.2, 0.3, 0.31))]
        assert read(tmp_path, entries, score_thr=0.3).persons.id.tolist() == [2]

    def test_all_is_an_error_that_says_why(self, tmp_path):
        entries = [detection(score=0.1), detection(category_id=3)]
        with pytest.raises(
            DataError, match=r'boxes\.json: no box is left of 2: 1 of other categories, 1 with a '
        ):
            read(tmp_path, entries, score_thr=0.5)

    def test_an_empty_list_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match=r'boxes\.json: an empty list'):
            read(tmp_path, [])


class TestErrors:
    def test_images_of_another_split(self, tmp_path):
        entries = [detection(), detection(139), detection(285)]
        with pytest.raises(
            DataError,
            match=r'image id 139 \(entry 1\) is not in .*annotations\.json, and so for 2 of 3',
        ):
            read(tmp_path, entries)

    @pytest.mark.parametrize('score', ['NaN', 'Infinity', '-Infinity', 'null', '"high"', '[]'])
    def test_scores(self, tmp_path, score):
        text = json.dumps([detection(2), detection(score='?')]).replace('"?"', score)
        with pytest.raises(DataError, match=r'entry 1: score must be a finite number, got'):
            read(tmp_path, text)

    @pytest.mark.parametrize(
        'bbox', ['[1, 2, NaN, 4]', '[1, 2, 3]', '[1, 2, 3, 4, 5]', 'null', '"box"', '7', '{}']
    )
    def test_boxes(self, tmp_path, bbox):
        text = json.dumps([detection(2), detection(bbox='?')]).replace('"?"', bbox)
        with pytest.raises(DataError, match=r'entry 1: bbox must be four finite numbers, got'):
            read(tmp_path, text)

    def test_numbers_beyond_float32(self, tmp_path):
        """They would be infinite boxes, or end in a bare OverflowError."""
        for entry in (detection(bbox=[0, 0, 1e30, 9]), detection(score=10**400)):
            with pytest.raises(DataError, match=r'entry 1: (bbox|score) must be .* finite number'):
                read(tmp_path, [detection(), entry])

    @pytest.mark.parametrize('field', ['image_id', 'category_id', 'bbox', 'score'])
    def test_missing_fields(self, tmp_path, field):
        entry = detection()
        del entry[field]
        with pytest.raises(DataError, match='entry 1 is no detection'):
            read(tmp_path, [detection(), entry])

    @pytest.mark.parametrize('image_id', [None, '1', 1.5, [1]])
    def test_image_ids_that_are_none(self, tmp_path, image_id):
        with pytest.raises(DataError, match=r'boxes\.json: .*image'):
            read(tmp_path, [detection(), detection(image_id)])

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('[{"image_id": 1,', 'are not JSON'),
            (json.dumps(coco_content()), r"an object with \['images', 'annotations'"),
            ('7', 'expected a list'),
            ('[7]', 'entry 0 is no detection'),
            ('[' * 100_000, 'are not JSON'),
        ],
    )
    def test_files_that_are_none(self, tmp_path, text, message):
        with pytest.raises(DataError, match=message):
            read(tmp_path, text)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r'nowhere\.json: No such file'):
            read_detections(tmp_path / 'nowhere.json', coco_content(), tmp_path, 7, 5)

    def test_an_image_without_its_size(self, tmp_path):
        image = image_entry(1)
        del image['width']
        with pytest.raises(DataError, match=r"annotations\.json: image .* lacks \['width'\]"):
            read(tmp_path, [detection()], content=coco_content([], [image]))


class TestDataset:
    def dataset(self, tmp_path, entries, content=None, cls=CocoStyleDataset, **options):
        boxes = tmp_path / 'boxes.json'
        boxes.write_text(json.dumps(entries))
        content = content or coco_content([person_entry(1), person_entry(2, image_id=2)])
        path = write_dataset(tmp_path, content)
        return cls(path.name, [], (48, 64), str(tmp_path), bbox_file=str(boxes), **options)

    def test_it_is_about_the_detections_and_says_so(self, tmp_path):
        entries = [detection(2, score=0.9), detection(2, score=0.1), detection(score=0.3)]
        dataset = self.dataset(tmp_path, entries, box_score_thr=0.2)
        assert len(dataset) == 2
        assert dataset.boxes == 'detections boxes.json (2 of 3, score > 0.2)'
        assert dataset.boxes_left_out == '1 with a score not above 0.2'
        assert dataset.annotated and dataset.category_id == CATEGORY['id']

    def test_ground_truth_says_so_too(self, tmp_path):
        dataset = CocoStyleDataset(
            write_dataset(tmp_path, coco_content()).name, [], (48, 64), str(tmp_path)
        )
        assert (dataset.boxes, dataset.boxes_left_out) == ('ground truth', '')

    def test_a_threshold_without_detections_is_refused(self, tmp_path):
        path = write_dataset(tmp_path, coco_content())
        with pytest.raises(ValueError, match='no bbox_file'):
            CocoStyleDataset(path.name, [], (48, 64), str(tmp_path), box_score_thr=0.2)

    def test_a_missing_file_is_no_ground_truth(self, tmp_path):
        path = write_dataset(tmp_path, coco_content())
        with pytest.raises(DataError, match=r'nowhere\.json: No such file'):
            CocoStyleDataset(
                path.name, [], (48, 64), str(tmp_path), bbox_file=str(tmp_path / 'nowhere.json')
            )


class TestWithoutAnnotations:
    """As COCO's image_info_test-dev2017.json: no annotations, categories without keypoints."""

    def info(self, category=None):
        return {
            'images': [image_entry(1), image_entry(2)],
            'categories': [
                category or {'id': 1, 'name': 'person', 'supercategory': 'person'},
                {'id': 2, 'name': 'bicycle', 'supercategory': 'vehicle'},
            ],
        }

    def build(self, tmp_path, info, cls=CocoDataset, boxes=True):
        (tmp_path / 'boxes.json').write_text(json.dumps([detection(category_id=1)]))
        path = write_dataset(tmp_path, info)
        bbox_file = str(tmp_path / 'boxes.json') if boxes else None
        return cls(path.name, [], (48, 64), str(tmp_path), bbox_file=bbox_file)

    def test_keypoints_are_the_class_s(self, tmp_path):
        dataset = self.build(tmp_path, self.info())
        assert dataset.info == COCO_KEYPOINTS
        assert dataset.persons.keypoints.shape == (1, 17, 3)
        assert not dataset.annotated and dataset.category_id == 1

    def test_or_the_file_s(self, tmp_path):
        category = {**CATEGORY, 'id': 1}
        dataset = self.build(tmp_path, self.info(category), CocoStyleDataset)
        assert dataset.info.names == tuple(CATEGORY['keypoints'])

    def test_without_either(self, tmp_path):
        with pytest.raises(DataError, match='lists no keypoints'):
            self.build(tmp_path, self.info(), CocoStyleDataset)

    def test_without_boxes(self, tmp_path):
        with pytest.raises(DataError, match=r'has no annotations.*--boxes FILE'):
            self.build(tmp_path, self.info(), boxes=False)

    def test_without_persons(self, tmp_path):
        with pytest.raises(DataError, match='expected one category with keypoints'):
            self.build(tmp_path, self.info({'id': 1, 'name': 'car'}))
