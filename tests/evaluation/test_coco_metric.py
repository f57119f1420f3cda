"""OKS-AP equal to pycocotools', and results that nobody can mistake."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.datasets import CocoDataset, CocoStyleDataset
from psa_pose.errors import ConfigError, DataError, ResultError
from psa_pose.evaluation import CocoMetric
from psa_pose.evaluation.coco_ap import METRIC_NAMES, load_results
from psa_pose.registry import METRICS
from tests.handmade import CATEGORY, coco_content, image_entry, person_entry, write_dataset


def dev(shared_data, folder):
    if folder == 'coco_mini':
        cls, name = CocoDataset, 'annotations/person_keypoints_dev.json'
    else:
        cls, name = CocoStyleDataset, 'annotations/lspet_dev.json'
    return cls(name, [], (192, 256), str(shared_data / folder), {'img': 'images'})


def handmade(tmp_path, content=None):
    content = content or coco_content([person_entry(i, image_id=i) for i in (1, 2, 3)])
    path = write_dataset(tmp_path, content)
    return CocoStyleDataset(path.name, [], (48, 64), str(tmp_path))


def truth_of(dataset):
    """Keypoints as labelled (in the box' centre where not), and a score of 1 each."""
    keypoints, boxes = dataset.persons.keypoints.astype(np.float64), dataset.persons.bbox
    # COCO's 0, 0 for all that is unlabelled would make strangers look alike to the suppression.
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return np.where(keypoints[..., 2:] > 0, keypoints[..., :2], centre), np.ones(
        keypoints.shape[:2]
    )


def feed(metric, keypoints, scores, persons=None, batch=16):
    persons = np.arange(len(keypoints)) if persons is None else np.asarray(persons)
    for i in range(0, len(persons), batch):
        some = persons[i : i + batch]
        metric.process(some, np.ones(len(some), bool), keypoints[some], scores[some])


def pycocotools_stats(ann_file, rows, sigmas):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ann_file))
        evaluation = COCOeval(truth, truth.loadRes(rows), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


class TestAgainstPycocotools:
    @pytest.mark.parametrize('folder', ['coco_mini', 'lspet'])
    @pytest.mark.parametrize('noise', [0.01, 0.05, 0.1, 0.3])
    @pytest.mark.parametrize('missing', [0, 0.4])
    def test_every_number_is_the_same(self, shared_data, folder, noise, missing):
        dataset = dev(shared_data, folder)
        metric = CocoMetric(dataset)
        rng = np.random.default_rng(0)
        keypoints, _ = truth_of(dataset)
        boxes = dataset.persons.bbox
        size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))[:, None, None]
        # some joints, and some persons, far worse than others
        amount = noise * rng.exponential(1, (len(size), 1, 1)) * rng.exponential(1, keypoints.shape)
        keypoints = keypoints + amount * size * rng.choice([-1, 1], keypoints.shape)
        predicted = np.flatnonzero(rng.random(len(keypoints)) >= missing)
        feed(metric, keypoints, rng.random(keypoints.shape[:2]), predicted)

        metrics = metric.compute()
        expected = pycocotools_stats(dataset.ann_file, metric.results(), dataset.info.sigmas)
        ours = [metrics[name] for name in METRIC_NAMES]
        np.testing.assert_allclose(ours, expected, atol=1e-12, rtol=0)
        assert 0 < metrics['AP'] < 1
        assert metrics['AR'] <= 1 - missing / 2

    def test_sigmas_are_the_dataset_s(self, tmp_path):
        for sigma in (0.02, 0.2):
            category = {**CATEGORY, 'sigmas': [sigma] * 5}
            dataset = handmade(tmp_path, coco_content([person_entry()], categories=[category]))
            metric = CocoMetric(dataset)
            keypoints, scores = truth_of(dataset)
            shift = 0.1 * math.sqrt(2000)
            feed(metric, keypoints + np.array([shift, 0]), scores)
            oks = math.exp(-(shift**2) / (2 * 2000 * (2 * sigma) ** 2))
            expected = np.mean([oks >= t for t in np.arange(0.5, 0.96, 0.05)])
            assert metric.compute()['AP'] == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize('folder', ['coco_mini', 'lspet'])
    def test_perfect_predictions_are_perfect(self, shared_data, folder):
        dataset = dev(shared_data, folder)
        metric = CocoMetric(dataset)
        feed(metric, *truth_of(dataset))
        metrics = metric.compute()
        assert {metrics[name] for name in METRIC_NAMES} <= {1, -1}
        assert metrics['AP'] == metrics['AR'] == 1

    def test_predictions_of_unlabelled_keypoints_do_not_count(self, tmp_path):
        dataset = handmade(tmp_path)
        keypoints, scores = truth_of(dataset)
        keypoints[:, 3] = 1000  # the one with v = 0
        metric = CocoMetric(dataset)
        feed(metric, keypoints, scores)
        assert metric.compute()['AP'] == 1

    def test_a_category_before_the_persons_does_not_matter(self, tmp_path):
        ball = {
            'id': 9,
            'image_id': 1,
            'category_id': 1,
            'bbox': [1, 1, 5, 5],
            'area': 25.0,
            'iscrowd': 0,
        }
        content = coco_content(
            [person_entry(), ball], categories=[{'id': 1, 'name': 'ball'}, CATEGORY]
        )
        dataset = handmade(tmp_path, content)
        metric = CocoMetric(dataset)
        feed(metric, *truth_of(dataset))
        assert metric.results()[0]['category_id'] == CATEGORY['id']
        assert metric.compute()['AP'] == 1

    def test_an_annotation_may_leave_out_what_can_be_counted(self, tmp_path):
        person = {k: v for k, v in person_entry().items() if k not in ('iscrowd', 'num_keypoints')}
        dataset = handmade(tmp_path, coco_content([person]))
        metric = CocoMetric(dataset)
        feed(metric, *truth_of(dataset))
        assert metric.compute()['AP'] == 1


class TestMissing:
    def test_a_skipped_person_is_counted_and_missed(self, tmp_path):
        dataset = handmade(tmp_path)
        metric = CocoMetric(dataset)
        keypoints, scores = truth_of(dataset)
        metric.process(np.arange(3), np.array([True, False, True]), keypoints, scores)
        assert metric.skipped == 1
        assert '1 skipped' in metric.title
        assert metric.compute()['AR'] == pytest.approx(2 / 3)

    def test_numbers_of_a_skipped_person_are_not_looked_at(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        keypoints, scores = truth_of(metric.dataset)
        keypoints[1] = np.nan
        metric.process(np.arange(3), np.array([True, False, True]), keypoints, scores)
        assert sorted(metric.predictions) == [0, 2]

    def test_nothing_skipped_is_not_mentioned(self, tmp_path):
        assert 'skipped' not in CocoMetric(handmade(tmp_path)).title

    def test_no_prediction_is_an_error(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        with pytest.raises(ResultError, match=r'annotations\.json: 0 persons were skipped'):
            metric.compute()

    def test_all_skipped_is_an_error_that_says_so(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        metric.process(np.arange(3), np.zeros(3, bool), *truth_of(metric.dataset))
        with pytest.raises(ResultError, match='3 persons were skipped'):
            metric.compute()

    def test_reset_forgets(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        feed(metric, *truth_of(metric.dataset))
        metric.process(np.array([0]), np.array([False]), *(a[:1] for a in truth_of(metric.dataset)))
        metric.reset()
        assert (metric.predictions, metric.skipped) == ({}, 0)

    def test_a_person_predicted_twice_counts_once(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        for _ in range(2):  # a distributed evaluation may repeat a person
            feed(metric, *truth_of(metric.dataset))
        assert len(metric.results()) == 3


class TestErrors:
    def other_truth(self, tmp_path, content):
        path = tmp_path / 'other.json'
        path.write_text(json.dumps(content))
        return str(path)

    def test_another_truth_s_images(self, tmp_path):
        dataset = handmade(tmp_path)
        truth = self.other_truth(tmp_path, coco_content([person_entry(1, image_id=500)]))
        with pytest.raises(ResultError, match=r'image id 1 of .*annotations\.json .*other\.json'):
            CocoMetric(dataset, ann_file=truth)

    @pytest.mark.parametrize('value', [np.nan, np.inf])
    @pytest.mark.parametrize('where', ['keypoints', 'scores'])
    def test_not_finite(self, tmp_path, value, where):
        metric = CocoMetric(handmade(tmp_path))
        keypoints, scores = truth_of(metric.dataset)
        (keypoints if where == 'keypoints' else scores)[1, 2] = value
        with pytest.raises(ResultError, match='not finite'):
            feed(metric, keypoints, scores)

    @pytest.mark.parametrize('area', [None, 0, -1])
    def test_no_area(self, tmp_path, area):
        content = coco_content([person_entry(77, area=area)])
        if area is None:
            del content['annotations'][0]['area']
        with pytest.raises(DataError, match=r'annotations\.json: annotation id 77 has area'):
            CocoMetric(handmade(tmp_path, content))

    def test_missing_truth(self, tmp_path):
        with pytest.raises(DataError, match=r'nowhere\.json'):
            CocoMetric(handmade(tmp_path), ann_file=str(tmp_path / 'nowhere.json'))

    @pytest.mark.parametrize('text', ['{"images": [', '[]', '{"images": []}'])
    def test_a_truth_that_is_none(self, tmp_path, text):
        (tmp_path / 'other.json').write_text(text)
        with pytest.raises(DataError, match=r'other\.json'):
            CocoMetric(handmade(tmp_path), ann_file=str(tmp_path / 'other.json'))

    def test_a_truth_with_other_keypoints(self, tmp_path):
        dataset = handmade(tmp_path)
        category = {**CATEGORY, 'keypoints': ['a', 'b']}
        person = person_entry(1, keypoints=[1, 1, 2, 5, 5, 2])
        truth = self.other_truth(tmp_path, coco_content([person], categories=[category]))
        with pytest.raises(DataError, match=r'other\.json'):
            CocoMetric(dataset, ann_file=truth)

    def test_a_misspelt_keyword_names_its_place(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^val_evaluator: .*did you mean 'nms_thr'"):
            METRICS.build(
                {'type': 'CocoMetric', 'nms_threshold': 0.9},
                at='val_evaluator',
                dataset=handmade(tmp_path),
            )


class TestTitle:
    def test_it_names_boxes_persons_file_and_sigmas(self, tmp_path):
        title = CocoMetric(handmade(tmp_path)).title
        for part in ('ground truth boxes', '3 persons', 'annotations.json', 'guessed sigmas'):
            assert part in title

    def test_results_say_their_boxes(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        feed(metric, *truth_of(metric.dataset))
        assert metric.compute()['boxes'] == 'ground truth'


class TestRows:
    def test_coco_s_result_format(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        keypoints, scores = truth_of(metric.dataset)
        scores = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]] * 3)
        feed(metric, keypoints.astype(np.float32), scores.astype(np.float32))
        rows = json.loads(json.dumps(metric.results()))
        assert [row['image_id'] for row in rows] == [1, 2, 3]
        for row in rows:
            assert set(row) == {'image_id', 'category_id', 'keypoints', 'score'}
            assert row['category_id'] == CATEGORY['id']
            flat = np.array(row['keypoints']).reshape(5, 3)
            np.testing.assert_array_equal(flat[:, :2], keypoints[0].astype(np.float32))
            np.testing.assert_allclose(flat[:, 2], scores[0], rtol=1e-7)

    def test_score_is_the_mean_over_confident_keypoints(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path), keypoint_score_thr=0.25)
        keypoints, _ = truth_of(metric.dataset)
        scores = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.25] * 5, [0.9, 0, 0, 0, 0]])
        feed(metric, keypoints, scores)
        assert [row['score'] for row in metric.results()] == pytest.approx([0.4, 0, 0.9])

    def test_doubles_in_an_image_are_dropped_but_not_across_images(self, tmp_path):
        persons = [
            person_entry(1, image_id=1),
            person_entry(2, image_id=1),
            person_entry(3, image_id=2),
        ]
        dataset = handmade(tmp_path, coco_content(persons))
        keypoints, scores = truth_of(dataset)
        scores *= np.array([[0.5], [0.8], [0.6]])
        metric = CocoMetric(dataset)
        feed(metric, keypoints, scores)
        rows = metric.results()
        assert [(row['image_id'], row['score']) for row in rows] == [(1, 0.8), (2, 0.6)]
        metric = CocoMetric(dataset, nms_thr=1.0)
        feed(metric, keypoints, scores)
        assert len(metric.results()) == 3

    def test_results_do_not_depend_on_the_order_of_batches(self, shared_data):
        dataset = dev(shared_data, 'coco_mini')
        keypoints, scores = truth_of(dataset)
        scores *= np.random.default_rng(0).random((len(scores), 1))
        rows = []
        for persons in (np.arange(len(dataset)), np.arange(len(dataset))[::-1]):
            metric = CocoMetric(dataset)
            feed(metric, keypoints, scores, persons, batch=7)
            rows.append(metric.results())
        assert rows[0] == rows[1]

    def test_image_ids_of_any_size(self, tmp_path):
        content = coco_content([person_entry(2**40, image_id=2**41)], [image_entry(2**41)])
        dataset = CocoStyleDataset(
            write_dataset(
                tmp_path, {**content, 'images': [image_entry(2**41, file_name='a.png')]}
            ).name,
            [],
            (48, 64),
            str(tmp_path),
        )
        metric = CocoMetric(dataset)
        feed(metric, *truth_of(dataset))
        assert metric.results()[0]['image_id'] == 2**41
        assert metric.compute()['AP'] == 1


def with_detections(tmp_path, content, entries, **options):
    (tmp_path / 'boxes.json').write_text(json.dumps(entries))
    path = write_dataset(tmp_path, content)
    return CocoStyleDataset(
        path.name, [], (48, 64), str(tmp_path), bbox_file=str(tmp_path / 'boxes.json'), **options
    )


def detection(image_id=1, **changes):
    entry = {'image_id': image_id, 'category_id': CATEGORY['id'], 'bbox': [20, 10, 60, 70]}
    return {**entry, 'score': 0.5, **changes}


class TestScores:
    SCORES = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])

    @pytest.mark.parametrize(
        ('mode', 'expected'),
        [('bbox_keypoint', 0.5 * 0.4), ('bbox', 0.5), ('keypoint', 0.3)],
    )
    def test_modes(self, tmp_path, mode, expected):
        dataset = with_detections(tmp_path, coco_content(), [detection()])
        metric = CocoMetric(dataset, score_mode=mode)
        feed(metric, np.zeros((1, 5, 2)), self.SCORES)
        assert [row['score'] for row in metric.results()] == pytest.approx([expected])

    @pytest.mark.parametrize('option', ['score_mode', 'nms_mode'])
    def test_an_unknown_mode(self, tmp_path, option):
        with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'boxes'"):
            CocoMetric(handmade(tmp_path), **{option: 'boxes'})


class TestSuppression:
    @pytest.mark.parametrize(
        ('mode', 'scores'),
        [
            ('oks_nms', [0.9]),
            ('soft_oks_nms', [0.9, 0.8]),
            ('none', [0.8, 0.9]),
            (None, [0.8, 0.9]),  # `--cfg-options val_evaluator.nms_mode=none`
        ],
    )
    def test_modes(self, tmp_path, mode, scores):
        entries = [detection(score=s, bbox=[20, 10, 60, 60 + s]) for s in (0.8, 0.9)]
        dataset = with_detections(tmp_path, coco_content(), entries)
        metric = CocoMetric(dataset, score_mode='bbox', nms_mode=mode)
        feed(metric, np.zeros((2, 5, 2)), np.ones((2, 5)))
        assert [row['score'] for row in metric.results()] == pytest.approx(scores)

    def test_soft_keeps_twenty(self, tmp_path):
        entries = [detection(score=0.5 + i / 100, bbox=[20, 10, 60, 30 + i]) for i in range(30)]
        dataset = with_detections(tmp_path, coco_content(), entries)
        metric = CocoMetric(dataset, nms_mode='soft_oks_nms')
        rng = np.random.default_rng(0)
        feed(metric, rng.uniform(0, 100, (30, 5, 2)), np.ones((30, 5)))
        assert len(metric.results()) == 20

    def test_areas_are_those_of_the_crops(self, shared_data):
        for folder in ('coco_mini', 'lspet'):
            dataset = dev(shared_data, folder)
            expected = [dataset.crop_scale(i).prod() for i in range(len(dataset))]
            areas = CocoMetric(dataset)._areas(np.arange(len(dataset)))
            np.testing.assert_allclose(areas, expected, rtol=1e-12)


class TestDetections:
    def test_title_and_metrics_name_the_file(self, tmp_path):
        content = coco_content([person_entry(1), person_entry(2, image_id=2)])
        dataset = with_detections(tmp_path, content, [detection()], box_score_thr=0.1)
        metric = CocoMetric(dataset)
        source = 'detections boxes.json (1, score > 0.1)'
        assert f'boxes: {source}, 2 images of annotations.json' in metric.title
        assert 'ground truth' not in metric.title
        feed(metric, truth_of(dataset)[0], np.ones((1, 5)))
        assert metric.compute()['boxes'] == source

    def test_a_person_without_a_detection_is_missed(self, tmp_path):
        content = coco_content([person_entry(1), person_entry(2, image_id=2)])
        dataset = with_detections(tmp_path, content, [detection(2)])
        metric = CocoMetric(dataset)
        keypoints = np.reshape(person_entry()['keypoints'], (1, 5, 3))[..., :2]
        feed(metric, keypoints, np.ones((1, 5)))
        assert metric.compute()['AR'] == 0.5

    def test_the_box_score_orders_detections(self, tmp_path):
        """The better keypoints come with the lower box score: precision 1/2 where they match."""
        entries = [detection(score=0.9), detection(bbox=[20, 10, 60, 71], score=0.1)]
        dataset = with_detections(tmp_path, coco_content(), entries)
        right = np.reshape(person_entry()['keypoints'], (5, 3))[:, :2]
        for order, expected in (((1, 0), 1.0), ((0, 1), 0.5)):
            metric = CocoMetric(dataset)
            keypoints = np.stack([right + 500 * (1 - good) for good in order])
            feed(metric, keypoints, np.ones((2, 5)))
            assert metric.compute()['AP'] == pytest.approx(expected)

    def test_equal_to_pycocotools_with_many_boxes(self, shared_data, tmp_path):
        truth = dev(shared_data, 'coco_mini')
        rng = np.random.default_rng(0)
        of = rng.integers(0, len(truth), 40 * len(truth))
        x1y1x2y2 = truth.persons.bbox[of] + rng.normal(0, 5, (len(of), 4))
        boxes = np.concatenate([x1y1x2y2[:, :2], x1y1x2y2[:, 2:] - x1y1x2y2[:, :2]], 1)
        entries = [
            {
                'image_id': int(truth.persons.image_id[i]),
                'category_id': 1,
                'bbox': np.maximum(box, [-9, -9, 2, 2]).tolist(),
                'score': float(rng.random()),
            }
            for i, box in zip(of, boxes, strict=True)
        ]
        (tmp_path / 'boxes.json').write_text(json.dumps(entries))
        dataset = CocoDataset(
            str(truth.ann_file), [], (192, 256), '', {'img': str(truth.image_root)},
            bbox_file=str(tmp_path / 'boxes.json'),
        )  # fmt: skip
        metric = CocoMetric(dataset)
        index = of[dataset.persons.id]
        keypoints = truth_of(truth)[0][index] + rng.normal(0, 4, (len(index), 17, 2))
        feed(metric, keypoints, rng.random((len(index), 17)))
        numbers = metric.compute()
        expected = pycocotools_stats(dataset.ann_file, metric.results(), dataset.info.sigmas)
        assert [numbers[name] for name in METRIC_NAMES] == expected.tolist()
        assert 0.1 < numbers['AP'] < 1


class TestSubmission:
    def test_without_annotations_there_are_rows_and_no_numbers(self, tmp_path):
        info = {'images': [image_entry(1), image_entry(2)], 'categories': [CATEGORY]}
        dataset = with_detections(tmp_path, info, [detection(2)])
        metric = CocoMetric(dataset)
        assert not metric.has_truth
        feed(metric, np.zeros((1, 5, 2)), np.ones((1, 5)))
        assert metric.compute() == {'boxes': 'detections boxes.json (1, score > 0.0)'}
        (row,) = metric.results()
        assert (row['image_id'], row['category_id']) == (2, CATEGORY['id'])

    def test_pycocotools_loads_the_file(self, tmp_path):
        dataset = handmade(tmp_path)
        metric = CocoMetric(dataset)
        feed(metric, *truth_of(dataset))
        metric.write_results(tmp_path / 'new' / 'results.json')
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(dataset.ann_file))
            loaded = truth.loadRes(str(tmp_path / 'new' / 'results.json'))
        assert len(loaded.anns) == 3
        assert {type(row['image_id']) for row in loaded.anns.values()} == {int}


class TestWrongNumbers:
    def test_annotation_id_0_counts(self, tmp_path):
        """pycocotools takes a match with it for none."""
        content = coco_content([person_entry(0), person_entry(1, image_id=2)])
        metric = CocoMetric(handmade(tmp_path, content))
        feed(metric, *truth_of(metric.dataset))
        assert metric.compute()['AP'] == metric.compute()['AR'] == 1

    def test_an_annotation_id_that_occurs_twice(self, tmp_path):
        content = coco_content([person_entry(4), person_entry(4, image_id=2)])
        with pytest.raises(DataError, match='annotations: id 4 occurs twice'):
            handmade(tmp_path, content)

    @pytest.mark.parametrize(
        ('keypoints', 'scores'), [((3, 17, 2), (3, 17)), ((3, 5, 2), (3, 4)), ((2, 5, 2), (3, 5))]
    )
    def test_predictions_of_another_k(self, tmp_path, keypoints, scores):
        metric = CocoMetric(handmade(tmp_path))
        with pytest.raises(ResultError, match='3 persons with K = 5, got arrays of shape'):
            metric.process(np.arange(3), np.ones(3, bool), np.zeros(keypoints), np.zeros(scores))

    def test_guessed_sigmas_are_warned_of(self, tmp_path):
        (warning,) = CocoMetric(handmade(tmp_path)).warnings
        assert 'annotations.json has no sigmas' in warning
        category = {**CATEGORY, 'sigmas': [0.1] * 5}
        assert not CocoMetric(handmade(tmp_path, coco_content(categories=[category]))).warnings


class TestResultFiles:
    def test_loading_is_pycocotools(self, tmp_path):
        dataset = handmade(tmp_path)
        metric = CocoMetric(dataset)
        rng = np.random.default_rng(0)
        feed(metric, rng.uniform(0, 100, (3, 5, 2)), rng.random((3, 5)))
        rows = metric.results()
        ours = load_results(metric.truth, rows)
        with contextlib.redirect_stdout(io.StringIO()):
            expected = COCO(str(dataset.ann_file)).loadRes(json.loads(json.dumps(rows)))
        assert ours.anns == expected.anns
        assert set(rows[0]) == {'image_id', 'category_id', 'keypoints', 'score'}

    def test_of_other_images(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        row = {'image_id': 9, 'category_id': 7, 'keypoints': [0.0] * 15, 'score': 1.0}
        with pytest.raises(ResultError, match='image id 9'):
            load_results(metric.truth, [row])

    def test_of_several_k(self, tmp_path):
        metric = CocoMetric(handmade(tmp_path))
        row = {'image_id': 1, 'category_id': 7, 'keypoints': [0.0] * 15, 'score': 1.0}
        with pytest.raises(ResultError, match='different numbers of keypoints'):
            load_results(metric.truth, [row, {**row, 'keypoints': [0.0] * 12}])
