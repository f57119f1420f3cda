"""PCKh: the numbers of the official evaluation, and no number where there is no truth."""

import json

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from psa_pose.datasets import CocoStyleDataset, MpiiDataset
from psa_pose.errors import ConfigError, DataError, ResultError
from psa_pose.evaluation import MpiiPCKAccuracy
from psa_pose.evaluation.mpii_metric import (
    METRIC_NAMES,
    MpiiTruth,
    mean_pckh,
    pckh,
    read_truth,
    summarize,
)
from psa_pose.registry import METRICS
from psa_pose.structures import MPII_KEYPOINTS
from tests.handmade import coco_content, picture, write_dataset

NAMES = MPII_KEYPOINTS.names
MAT_NAMES = ['rank', 'rkne', 'rhip', 'lhip', 'lkne', 'lank', 'pelv', 'thor', 'neck', 'head']
MAT_NAMES += ['rwri', 'relb', 'rsho', 'lsho', 'lelb', 'lwri']


@pytest.fixture(scope='module')
def nyu(shared_data):
    return shared_data / 'mpii' / 'annotations' / 'mpii_val_predictions_nyu.mat'


@pytest.fixture(scope='module')
def numbers(nyu):
    predictions = np.moveaxis(loadmat(nyu)['pos_pred_src'], -1, 0)
    return summarize(predictions, read_truth(nyu))


def entries(count, headbox=(10, 10, 40, 50), seed=0):
    """Persons with joints at whole pixels; head size 30."""
    random = np.random.default_rng(seed)
    return [
        {
            'image': f'{i}.png',
            'center': [50.0, 40.0],
            'scale': 0.3,
            'joints': random.integers(1, 80, (16, 2)).astype(float).tolist(),
            'joints_vis': [1] * 16,
            **({'headbox': list(headbox)} if headbox else {}),
        }
        for i in range(count)
    ]


def dataset_of(root, persons):
    for person in persons:
        cv2.imwrite(str(root / person['image']), picture())
    (root / 'mpii.json').write_text(json.dumps(persons))
    return MpiiDataset('mpii.json', [], (256, 256), str(root))


def write_mat(path, persons, **changes):
    joints = np.array([p['joints'] for p in persons])
    missing = 1 - np.array([p['joints_vis'] for p in persons])
    boxes = np.array([p.get('headbox', (10, 10, 40, 50)) for p in persons], float)
    content = {
        'pos_gt_src': np.moveaxis(joints, 0, -1),
        'jnt_missing': np.moveaxis(missing, 0, -1).astype(np.uint8),
        'headboxes_src': np.moveaxis(boxes.reshape(-1, 2, 2), 0, -1),
        'dataset_joints': np.array(MAT_NAMES, dtype=object)[None],
        **changes,
    }
    savemat(path, {key: value for key, value in content.items() if value is not None})
    return path


def feed(metric, offset=0.0, persons=None):
    """Predict every joint `offset` pixels to the right of its label."""
    keypoints = metric.dataset.persons.keypoints[..., :2].astype(np.float64) + np.array([offset, 0])
    for i in range(len(keypoints)) if persons is None else persons:
        metric.process(np.array([i]), np.array([True]), keypoints[i : i + 1], np.ones((1, 16)))


class TestPublishedPredictions:
    @pytest.mark.parametrize(
        ('name', 'expected'),
        [
            ('PCKh', 82.337),
            ('PCKh@0.1', 28.975),
            ('PCKh@0.5/right_ankle', 65.201),
            ('PCKh@0.5/head_top', 95.600),
            ('PCKh@0.5/right_wrist', 76.400),
            ('Head', 95.600),
        ],
    )
    def test_as_published(self, numbers, name, expected):
        assert round(numbers[name], 3) == expected

    def test_a_part_is_the_mean_of_its_sides(self, numbers):
        for part in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle'):
            sides = [numbers[f'PCKh@0.5/{side}_{part}'] for side in ('left', 'right')]
            assert numbers[part.capitalize()] == pytest.approx(sum(sides) / 2)

    def test_through_the_metric(self, shared_data, nyu):
        """The five images are the first five validation persons; found by their joints."""
        root = shared_data / 'mpii'
        dataset = MpiiDataset(
            'annotations/mpii_five.json', [], (256, 256), str(root), {'img': 'images'}
        )
        metric = MpiiPCKAccuracy(dataset, gt_file=f'annotations/{nyu.name}')
        predictions = np.moveaxis(loadmat(nyu)['pos_pred_src'], -1, 0)[:5]
        metric.process(np.arange(5), np.ones(5, bool), predictions - 1, np.ones((5, 16)))
        whole = read_truth(nyu)
        expected = summarize(predictions, whole.of(np.arange(5)))
        assert {**expected, 'boxes': dataset.boxes} == metric.compute()
        assert 0 < expected['PCKh'] < 100


class TestFunction:
    def truth(self, count=4):
        random = np.random.default_rng(1)
        joints = random.integers(1, 200, (count, 16, 2)).astype(float)
        return MpiiTruth(joints, np.ones((count, 16), bool), np.full(count, 20.0), 'here')

    def test_spelled_out(self):
        random = np.random.default_rng(2)
        truth = self.truth(50)
        labelled = random.random((50, 16)) < 0.8
        sizes = random.uniform(10, 60, 50)
        truth = MpiiTruth(truth.keypoints, labelled, sizes, 'here')
        predictions = truth.keypoints + random.normal(0, 15, truth.keypoints.shape)
        for threshold in (0.5, 0.1):
            right, total, of_all = 0, 0, []
            for k, name in enumerate(NAMES):
                hits = [
                    np.hypot(*(predictions[n, k] - truth.keypoints[n, k])) <= threshold * sizes[n]
                    for n in range(50)
                    if labelled[n, k]
                ]
                of_all.append(100 * np.mean(hits))
                if name not in ('pelvis', 'thorax'):
                    right, total = right + sum(hits), total + len(hits)
            by_joint = pckh(predictions, truth, threshold)
            np.testing.assert_allclose(by_joint, of_all)
            assert mean_pckh(by_joint, truth) == pytest.approx(100 * right / total)

    def test_the_threshold_itself_is_found(self):
        truth = self.truth()
        assert pckh(truth.keypoints + np.array([10, 0]), truth).tolist() == [100] * 16
        assert pckh(truth.keypoints + np.array([10.001, 0]), truth).tolist() == [0] * 16

    def test_what_was_not_predicted_is_missed(self):
        truth = self.truth()
        predictions = truth.keypoints.copy()
        predictions[0] = np.nan
        assert pckh(predictions, truth).tolist() == [75] * 16

    def test_a_joint_that_nobody_has(self):
        truth = self.truth()
        truth.labelled[:, [0, 9]] = False
        numbers = summarize(truth.keypoints, truth)
        assert numbers['PCKh@0.5/right_ankle'] == numbers['Head'] == -1
        assert numbers['Ankle'] == numbers['PCKh'] == 100
        json.dumps(numbers, allow_nan=False)


class TestMetric:
    @pytest.mark.parametrize(('offset', 'strict', 'fine'), [(0, 100, 100), (4, 100, 0), (16, 0, 0)])
    def test_with_head_boxes_of_the_annotations(self, tmp_path, offset, strict, fine):
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, entries(3)))  # head size 30: 15 and 3 pixels
        feed(metric, offset)
        numbers = metric.compute()
        assert (numbers['PCKh'], numbers['PCKh@0.1']) == (strict, fine)
        assert tuple(numbers) == (*METRIC_NAMES, 'boxes')
        assert numbers['boxes'] == "MPII's center and scale"

    def test_with_the_field_s_mat(self, tmp_path):
        persons = entries(3, headbox=None)
        dataset = dataset_of(tmp_path, persons)
        write_mat(tmp_path / 'gt.mat', persons)
        metric = METRICS.build({'type': 'MpiiPCKAccuracy', 'gt_file': 'gt.mat'}, dataset=dataset)
        feed(metric, 14)
        assert metric.compute()['PCKh'] == 100
        assert 'head sizes of gt.mat' in metric.title

    def test_a_part_of_the_mat_s_persons(self, tmp_path):
        persons = entries(6, headbox=None)
        write_mat(tmp_path / 'gt.mat', persons)
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, persons[4:1:-1]), 'gt.mat')
        np.testing.assert_array_equal(metric.truth.keypoints[0], persons[4]['joints'])

    def test_test_images_have_no_truth_whatever_the_config_names(self, tmp_path):
        write_mat(tmp_path / 'gt.mat', entries(3, seed=1))
        persons = [{k: v for k, v in p.items() if 'joints' not in k} for p in entries(2)]
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, persons), 'gt.mat')
        feed(metric)
        assert metric.truth is None and set(metric.compute()) == {'boxes'}
        with pytest.raises(ConfigError, match=r'CocoMetric measures .*MpiiDataset.*PCKAccuracy'):
            METRICS.build({'type': 'CocoMetric'}, dataset=metric.dataset)

    def test_other_persons_are_refused(self, tmp_path):
        write_mat(tmp_path / 'gt.mat', entries(3, seed=1))
        with pytest.raises(ResultError, match=r'gt\.mat and .*mpii\.json .* different'):
            MpiiPCKAccuracy(dataset_of(tmp_path, entries(3)), 'gt.mat')
        with pytest.raises(ResultError, match=r'2 entries.*3 persons.*entry 0.*of 0 of them'):
            MpiiPCKAccuracy(dataset_of(tmp_path, entries(2)), 'gt.mat')

    def test_no_head_sizes_is_an_error_that_says_what_is_needed(self, tmp_path):
        persons = [*entries(1), *entries(1, headbox=None)]
        with pytest.raises(DataError) as caught:
            MpiiPCKAccuracy(dataset_of(tmp_path, persons))
        for part in ("1 of 2 persons have no 'headbox'", 'entry 1', 'mpii_gt_val.mat', 'gt_file'):
            assert part in str(caught.value)

    def test_skipped_persons_count_as_missed(self, tmp_path):
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, entries(4)))
        feed(metric, persons=[0, 1, 2])
        metric.process(np.array([3]), np.array([False]), np.zeros((1, 16, 2)), np.zeros((1, 16)))
        assert metric.compute()['PCKh'] == 75
        assert '1 skipped' in metric.title

    def test_nothing_predicted(self, tmp_path):
        with pytest.raises(ResultError, match='no prediction'):
            MpiiPCKAccuracy(dataset_of(tmp_path, entries(1))).compute()

    def test_test_images_give_predictions_and_no_number(self, tmp_path):
        persons = entries(2, headbox=None)
        for person in persons:
            del person['joints'], person['joints_vis']
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, persons))
        feed(metric)
        assert metric.compute() == {'boxes': "MPII's center and scale"}
        assert not metric.has_truth
        assert 'not public' in metric.title
        assert len(metric.results()) == 2

    def test_another_dataset_is_refused(self, tmp_path):
        path = write_dataset(tmp_path, coco_content())
        dataset = CocoStyleDataset(path.name, [], (48, 64), str(tmp_path))
        with pytest.raises(ConfigError, match=r"'MpiiDataset', not 'CocoStyleDataset'"):
            MpiiPCKAccuracy(dataset)

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'pos_gt_src': None}, "'pos_gt_src' should be 16 x 2 x persons, found nothing"),
            ({'jnt_missing': np.zeros((14, 2))}, r"'jnt_missing' should be 16 x persons, found"),
            ({'headboxes_src': np.ones((2, 2, 5))}, r'its arrays have \[2, 2, 5\] persons'),
            (
                {'dataset_joints': np.array(MAT_NAMES[::-1], dtype=object)[None]},
                "dataset_joints are .*'lwri', 'lelb'",
            ),
        ],
    )
    def test_a_mat_of_another_format(self, tmp_path, changes, said):
        path = write_mat(tmp_path / 'gt.mat', entries(2), **changes)
        with pytest.raises(DataError, match=said):
            read_truth(path)

    def test_no_mat_at_all(self, tmp_path):
        (tmp_path / 'text.mat').write_text('<html>not found</html>' * 20)
        with pytest.raises(DataError, match=r'text\.mat is not a MATLAB'):
            read_truth(tmp_path / 'text.mat')
        with pytest.raises(DataError, match=r'nowhere\.mat'):
            read_truth(tmp_path / 'nowhere.mat')


class TestResultFiles:
    def test_mat_counts_from_one_with_a_row_for_every_entry(self, tmp_path):
        persons = entries(3)
        persons[1]['center'] = [-1.0, -1.0]
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, persons))
        feed(metric)
        metric.write_results(tmp_path / 'new' / 'pred.mat')
        preds = loadmat(tmp_path / 'new' / 'pred.mat')['preds']
        assert preds.shape == (3, 16, 2)
        np.testing.assert_allclose(preds[0], persons[0]['joints'], atol=1e-5)
        np.testing.assert_allclose(preds[2], persons[2]['joints'], atol=1e-5)
        assert np.isnan(preds[1]).all()

    def test_json(self, tmp_path):
        persons = entries(2)
        metric = MpiiPCKAccuracy(dataset_of(tmp_path, persons))
        feed(metric)
        metric.write_results(tmp_path / 'out.json')
        rows = json.loads((tmp_path / 'out.json').read_text())
        assert [(row['image'], row['entry']) for row in rows] == [('0.png', 0), ('1.png', 1)]
        np.testing.assert_allclose(rows[1]['joints'], persons[1]['joints'], atol=1e-5)
        assert rows[0]['joint_scores'] == [1] * 16
