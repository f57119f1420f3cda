"""AP of the diagnosis: the project's own, and that of single keypoints and groups."""

import json

import numpy as np
import pytest

from psa_pose.evaluation.coco_ap import keypoint_ap, load_results, read_truth
from psa_pose.evaluation.diagnosis import diagnose
from psa_pose.evaluation.diagnosis.scene import Scene
from tests.corrupted import Predictions, crowd_file
from tests.evaluation.test_coco_metric import pycocotools_stats

FILES = {
    'coco_mini': 'coco_mini/annotations/person_keypoints_dev.json',
    'lspet': 'lspet/annotations/lspet_dev.json',
}


def noisy(path, noise=0.05, seed=0):
    predictions = Predictions(path, seed)
    rng = np.random.default_rng(seed)
    size = np.sqrt(predictions.truth.area[predictions.persons])[:, None, None]
    amount = noise * rng.exponential(1, (len(size), 1, 1)) * rng.exponential(2, (1, 1, 1))
    predictions.points += amount * size * rng.normal(0, 1, predictions.points.shape)
    predictions.background(5)
    predictions.duplicate(5)
    return predictions


def steadily_noisy(path, noise):
    """Every detection stays that of its person."""
    predictions = Predictions(path)
    size = np.sqrt(predictions.truth.area[predictions.persons])[:, None, None]
    offset = np.random.default_rng(1).normal(0, 1, predictions.points.shape)
    predictions.points += noise * size * offset
    predictions.background(5)
    predictions.duplicate(5)
    return predictions


@pytest.fixture(params=['handmade', 'coco_mini', 'lspet'])
def predictions(request, tmp_path):
    if request.param == 'handmade':
        return noisy(crowd_file(tmp_path))
    return noisy(request.getfixturevalue('shared_data') / FILES[request.param])


def test_it_is_pycocotools_and_the_metric_s(predictions):
    truth = predictions.truth
    values = Scene.of(truth, predictions.detections()).average_precision()
    expected = pycocotools_stats(truth.path, predictions.rows(), truth.info.sigmas)
    np.testing.assert_allclose(list(values.values()), expected, atol=1e-12)
    coco, category = read_truth(truth.path, truth.info.names)
    rows = load_results(coco, predictions.rows())
    assert keypoint_ap(coco, rows, category, truth.info.sigmas) == pytest.approx(values, abs=1e-12)
    assert 0 < values['AP'] < 1


def plain_ap(similarity, score, positives):
    """COCO's AP from the similarity of each detection to its own person (NaN: nobody's)."""
    order = np.argsort(-np.asarray(score), kind='stable')
    values = []
    for threshold in np.linspace(0.5, 0.95, 10):
        right = np.asarray(similarity)[order] >= threshold
        found, seen = np.cumsum(right), np.arange(1, len(order) + 1)
        precision = np.maximum.accumulate((found / seen)[::-1])[::-1]
        recall = found / positives
        at = [np.searchsorted(recall, r) for r in np.linspace(0, 1, 101)]
        values.append(np.mean([precision[i] if i < len(precision) else 0 for i in at]))
    return np.mean(values)


def test_ap_of_a_keypoint_against_a_plain_loop(tmp_path):
    predictions = steadily_noisy(crowd_file(tmp_path), 0.08)
    truth, sigmas = predictions.truth, predictions.truth.info.sigmas
    diagnosis = diagnose(truth, predictions.detections())
    assert diagnosis.detections['matched'] == len(predictions.persons)
    assert diagnosis.detections['ignored'] == 0
    for k, name in enumerate(truth.info.names):
        similarity, score = [], []
        for i, person in enumerate(predictions.persons):
            if truth.labelled[person, k]:
                gap = np.linalg.norm(predictions.points[i, k] - truth.keypoints[person, k])
                variance = 2 * truth.area[person] * (2 * sigmas[k]) ** 2
                similarity.append(np.exp(-(gap**2) / variance))
                score.append(predictions.score[i])
        positives = len(score)
        similarity += [np.nan] * len(predictions.extra)
        score += [extra[2] for extra in predictions.extra]
        expected = plain_ap(similarity, score, positives)
        assert diagnosis.keypoints[name]['AP'] == pytest.approx(expected, abs=1e-9), name
        assert 0 < expected < 1


def test_pck_against_a_plain_loop(tmp_path):
    predictions = steadily_noisy(crowd_file(tmp_path), 0.15)
    truth = predictions.truth
    diagnosis = diagnose(truth, predictions.detections())
    assert diagnosis.persons['missed'] == 0
    for k, name in enumerate(truth.info.names):
        near = []
        for i, person in enumerate(predictions.persons):
            if truth.labelled[person, k]:
                gap = np.linalg.norm(predictions.points[i, k] - truth.keypoints[person, k])
                near.append(gap < 0.2 * max(truth.bbox[person, 2:]))
        assert diagnosis.keypoints[name]['PCK'] == pytest.approx(np.mean(near))


def test_medium_and_large_are_coco_s(predictions):
    diagnosis = diagnose(predictions.truth, predictions.detections())
    for name, key in (('medium', 'APM'), ('large', 'APL')):
        if name in diagnosis.groups['size']:
            assert diagnosis.groups['size'][name]['AP'] == diagnosis.ap[key]


def test_a_keypoint_that_nobody_has(tmp_path):
    path = crowd_file(tmp_path)
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation['keypoints'][12:] = [0, 0, 0]
        annotation['num_keypoints'] = sum(v > 0 for v in annotation['keypoints'][2::3])
    path.write_text(json.dumps(content))
    diagnosis = diagnose(Predictions(path).truth, Predictions(path).detections())
    row = diagnosis.keypoints['right_foot']
    assert (row['labelled'], row['AP'], row['PCK']) == (0, -1, -1)
    assert diagnosis.keypoints['left_hand']['AP'] == 1
