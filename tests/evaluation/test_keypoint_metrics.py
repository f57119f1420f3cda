"""PCK, AUC, EPE and NME against plain loops and against MMPose's functions."""

import numpy as np
import pytest

from psa_pose.datasets import CocoStyleDataset
from psa_pose.errors import ConfigError, ResultError
from psa_pose.evaluation import AUC, EPE, NME, PCKAccuracy
from psa_pose.evaluation.distances import mean, mean_pck, normalised
from psa_pose.registry import METRICS
from tests.handmade import CATEGORY, coco_content, person_entry, write_dataset

BODY = {
    **CATEGORY,
    'keypoints': ['nose', 'left_shoulder', 'right_shoulder', 'left_hip', 'right_hip'],
}


def dataset_of(root, persons, category=BODY):
    path = write_dataset(root, coco_content(persons, categories=[category]))
    return CocoStyleDataset(path.name, [], (48, 64), str(root))


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(3)
    persons = []
    for i in range(1, 21):
        points = rng.uniform([20, 10], [80, 80], (5, 2))
        seen = rng.random(5) > 0.3
        seen[0] = True
        flat = np.column_stack([points * seen[:, None], 2 * seen]).ravel().tolist()
        box = [*rng.uniform(0, 20, 2).tolist(), *rng.uniform(20, 60, 2).tolist()]
        persons.append(
            person_entry(i, image_id=i, keypoints=flat, num_keypoints=int(seen.sum()), bbox=box)
        )
    return dataset_of(tmp_path, persons)


def predict(metric, seed=0, noise=8.0, left_out=()):
    """Noise upon the labels, of all persons but some; returns the predictions (P, K, 2)."""
    truth = metric.dataset.persons.keypoints[..., :2]
    points = truth + np.random.default_rng(seed).normal(0, noise, truth.shape)
    persons = np.setdiff1d(np.arange(len(truth)), left_out)
    metric.process(
        persons, np.ones(len(persons), bool), points[persons], np.ones((len(persons), 5))
    )
    return points


def sizes_by_loop(dataset, item):
    sizes = []
    for box, keypoints in zip(dataset.persons.bbox, dataset.persons.keypoints, strict=True):
        if item == 'bbox':
            sizes.append(max(box[2] - box[0], box[3] - box[1]))
        else:
            left, right = keypoints[1].astype(float), keypoints[4].astype(float)
            seen = left[2] > 0 and right[2] > 0
            sizes.append(np.linalg.norm(left[:2] - right[:2]) if seen else None)
    return sizes


def pck_by_loop(dataset, points, sizes, thr, missing=()):
    by_keypoint = []
    for k in range(5):
        right = []
        for i, keypoints in enumerate(dataset.persons.keypoints):
            if keypoints[k, 2] > 0 and sizes[i]:
                gap = np.linalg.norm(points[i, k] - keypoints[k, :2].astype(float))
                right.append(i not in missing and gap < thr * sizes[i])
        if right:
            by_keypoint.append(np.mean(right))
    return np.mean(by_keypoint)


class TestAgainstLoops:
    @pytest.mark.parametrize('thr', [0.05, 0.2, 0.5])
    @pytest.mark.parametrize(('item', 'name'), [('bbox', 'PCK'), ('torso', 'tPCK')])
    def test_pck(self, dataset, thr, item, name):
        metric = PCKAccuracy(dataset, thr, item)
        points = predict(metric)
        sizes = sizes_by_loop(dataset, item)
        assert (None in sizes) == (item == 'torso')
        expected = pck_by_loop(dataset, points, sizes, thr)
        assert metric.compute() == {name: pytest.approx(expected), 'boxes': 'ground truth'}
        assert 0 < expected < 1

    def test_several_units_at_once(self, dataset):
        metric = PCKAccuracy(dataset, norm_item=['bbox', 'torso'])
        predict(metric)
        for item, name in (('bbox', 'PCK'), ('torso', 'tPCK')):
            alone = PCKAccuracy(dataset, norm_item=item)
            predict(alone)
            assert metric.compute()[name] == alone.compute()[name]

    def test_a_person_that_was_not_predicted_is_wrong(self, dataset):
        metric = PCKAccuracy(dataset)
        points = predict(metric, left_out=[3, 4])
        sizes = sizes_by_loop(dataset, 'bbox')
        expected = pck_by_loop(dataset, points, sizes, 0.2, missing=(3, 4))
        assert metric.compute()['PCK'] == pytest.approx(expected)

    def test_auc(self, dataset):
        metric = AUC(dataset, norm_factor=25, num_thrs=8)
        points = predict(metric)
        sizes = [25] * len(dataset)
        expected = np.mean([pck_by_loop(dataset, points, sizes, i / 8) for i in range(8)])
        assert metric.compute()['AUC'] == pytest.approx(expected)

    def test_epe(self, dataset):
        metric = EPE(dataset)
        points = predict(metric, left_out=[2])
        gaps = [
            np.linalg.norm(points[i, k] - keypoints[k, :2].astype(float))
            for i, keypoints in enumerate(dataset.persons.keypoints)
            for k in range(5)
            if keypoints[k, 2] > 0 and i != 2
        ]
        assert metric.compute()['EPE'] == pytest.approx(np.mean(gaps))

    @pytest.mark.parametrize(
        ('options', 'item'),
        [
            ({'norm_mode': 'use_norm_item', 'norm_item': 'bbox_size'}, 'bbox'),
            ({'norm_mode': 'use_norm_item', 'norm_item': 'torso_size'}, 'torso'),
            ({'norm_mode': 'keypoint_distance', 'keypoint_indices': [1, 4]}, 'torso'),
        ],
    )
    def test_nme(self, dataset, options, item):
        metric = NME(dataset, **options)
        points = predict(metric)
        gaps = [
            np.linalg.norm(points[i, k] - dataset.persons.keypoints[i, k, :2].astype(float)) / size
            for i, size in enumerate(sizes_by_loop(dataset, item))
            for k in range(5)
            if dataset.persons.keypoints[i, k, 2] > 0 and size
        ]
        assert metric.compute()['NME'] == pytest.approx(np.mean(gaps))

    def test_perfect_predictions(self, dataset):
        for metric, value in ((PCKAccuracy(dataset), 1), (AUC(dataset), 0.95), (EPE(dataset), 0)):
            predict(metric, noise=0)
            assert metric.compute()[metric.names[0]] == pytest.approx(value)


def test_mmpose_s_numbers():
    """keypoint_pck_accuracy, keypoint_auc, keypoint_epe, keypoint_nme of MMPose 1.1.0, run once."""
    rng = np.random.default_rng(2024)
    truth = rng.uniform(0, 200, (40, 6, 2))
    points = truth + rng.normal(0, 9, (40, 6, 2))
    labelled = rng.random((40, 6)) > 0.3
    labelled[:, 5] = False
    sizes = rng.uniform(20, 150, 40)
    sizes[3] = 0
    distances = np.linalg.norm(points - truth, axis=-1)
    scaled, counted = normalised(distances, labelled, sizes)
    for thr, expected in (
        (0.05, 0.10731082969681412),
        (0.2, 0.7359783662759191),
        (0.5, 0.9560373349305497),
    ):
        assert mean_pck(scaled, counted, thr) == pytest.approx(expected, abs=1e-12)
    for unit, steps, expected in ((30, 20, 0.5774827658303465), (15, 7, 0.23738923024406894)):
        values = [mean_pck(distances / unit, labelled, i / steps) for i in range(steps)]
        assert np.mean(values) == pytest.approx(expected, abs=1e-12)
    assert mean(distances, labelled) == pytest.approx(11.901740975215517, rel=1e-6)  # its float32
    assert mean(scaled, counted) == pytest.approx(0.16997812835263534, rel=1e-6)


class TestTitles:
    def test_what_was_measured_and_by_what(self, dataset):
        without = sizes_by_loop(dataset, 'torso').count(None)
        title = PCKAccuracy(dataset, 0.1, ['bbox', 'torso']).title
        assert "PCK@0.1 of the box' larger side, tPCK@0.1 of the torso" in title
        assert f'({without} persons without it left out)' in title
        assert title.endswith('ground truth boxes, 20 persons of annotations.json')
        assert 'from 0 to 30 pixels in 20 steps' in AUC(dataset).title
        assert (
            'from left_shoulder to nose'
            in NME(dataset, 'keypoint_distance', keypoint_indices=(1, 0)).title
        )

    def test_skipped_persons(self, dataset):
        metric = EPE(dataset)
        points = np.zeros((1, 5, 2))
        metric.process(np.array([0]), np.array([False]), points, points[..., 0])
        assert metric.title.endswith('1 skipped as unreadable')
        with pytest.raises(ResultError, match='1 persons were skipped'):
            metric.compute()


class TestErrors:
    @pytest.mark.parametrize(
        ('config', 'match'),
        [
            ({'type': 'PCKAccuracy', 'norm_item': 'box'}, "norm_item 'box'; did you mean 'bbox'"),
            ({'type': 'PCKAccuracy', 'norm_item': 'head'}, r'head sizes .*annotations\.json'),
            ({'type': 'PCKAccuracy', 'thr': 0}, 'thr must be above 0'),
            ({'type': 'PCKAccuracy', 'thresh': 1}, "did you mean 'thr'"),
            ({'type': 'AUC', 'num_thrs': 0}, 'num_thrs must be above 0'),
            ({'type': 'NME'}, "needs the keyword 'norm_mode'"),
            ({'type': 'NME', 'norm_mode': 'x'}, "no norm_mode 'x'"),
            ({'type': 'NME', 'norm_mode': 'use_norm_item'}, 'takes norm_item and no other'),
            (
                {'type': 'NME', 'norm_mode': 'keypoint_distance', 'norm_item': 'bbox_size'},
                'takes keypoint_indices and no other',
            ),
            (
                {'type': 'NME', 'norm_mode': 'use_norm_item', 'norm_item': 'bbox'},
                "did you mean 'bbox_size'",
            ),
            (
                {'type': 'NME', 'norm_mode': 'keypoint_distance', 'keypoint_indices': [1, 5]},
                r'two of 0 to 4, got \[1, 5\]',
            ),
        ],
    )
    def test_options_name_their_place(self, dataset, config, match):
        with pytest.raises(ConfigError, match=f'^val_evaluator.*{match}'):
            METRICS.build(config, at='val_evaluator', dataset=dataset)

    def test_a_dataset_without_torso(self, tmp_path):
        dataset = dataset_of(tmp_path, [person_entry()], CATEGORY)
        with pytest.raises(ConfigError, match="no keypoint 'left_shoulder'"):
            METRICS.build({'type': 'PCKAccuracy', 'norm_item': 'torso'}, at='m', dataset=dataset)

    def test_persons_without_labels(self, dataset):
        dataset.persons.keypoints[..., 2] = 0  # as a detector's boxes have them
        with pytest.raises(ConfigError, match=r'val_evaluator.*have none: leave it out'):
            METRICS.build({'type': 'EPE'}, at='val_evaluator', dataset=dataset)


def test_results_are_in_coco_s_format(dataset):
    metric = EPE(dataset)
    points = predict(metric, left_out=[0])
    rows = metric.results()
    assert [row['image_id'] for row in rows] == dataset.persons.image_id[1:].tolist()
    assert {row['category_id'] for row in rows} == {CATEGORY['id']}
    np.testing.assert_allclose(np.reshape(rows[0]['keypoints'], (5, 3))[:, :2], points[1])


def test_head_sizes_of_mpii(shared_data):
    from psa_pose.datasets import MpiiDataset

    folder = shared_data / 'mpii'
    dataset = MpiiDataset(
        'annotations/mpii_five.json', [], (64, 64), str(folder), {'img': 'images'}
    )
    if not (dataset.head_size > 0).any():
        dataset.head_size = np.full(len(dataset), 50.0)
    metric = PCKAccuracy(dataset, 0.5, 'head')
    truth = dataset.persons.keypoints[..., :2].astype(float)
    people = np.arange(len(dataset))
    metric.process(people, np.ones(len(people), bool), truth, np.ones(truth.shape[:2]))
    assert metric.compute()['PCKh'] == 1
