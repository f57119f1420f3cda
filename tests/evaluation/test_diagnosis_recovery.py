"""Errors put into perfect predictions are found, kind by kind and keypoint by keypoint."""

import numpy as np
import pytest

from psa_pose.evaluation.diagnosis import diagnose
from psa_pose.evaluation.diagnosis.detections import check_results
from psa_pose.evaluation.diagnosis.options import CURES, KEYPOINT_KINDS
from tests.corrupted import Predictions, crowd_file

FILES = {
    'coco_mini': 'coco_mini/annotations/person_keypoints_dev.json',
    'lspet': 'lspet/annotations/lspet_dev.json',
}


@pytest.fixture(params=['handmade', 'coco_mini', 'lspet'])
def predictions(request, tmp_path):
    if request.param == 'handmade':
        return Predictions(crowd_file(tmp_path))
    return Predictions(request.getfixturevalue('shared_data') / FILES[request.param])


def corrupt(predictions, kind, share=0.2):
    if kind == 'swap' and len(np.unique(predictions.truth.image_id)) == len(predictions.truth):
        pytest.skip('one person an image: nobody to swap with')
    if kind in KEYPOINT_KINDS:
        getattr(predictions, kind)(share)
    else:
        getattr(predictions, kind.replace(' ', '_'))(7)


def expect(diagnosis, predictions, **detections):
    """Every count is what was put in, and everything else is right."""
    names = predictions.truth.info.names
    expected = {kind: np.zeros(len(names), int) for kind in (*KEYPOINT_KINDS, 'missed person')}
    expected |= predictions.errors
    for k, name in enumerate(names):
        row = diagnosis.keypoints[name]
        for kind, counts in expected.items():
            assert row[kind] == counts[k], (name, kind)
        assert row['good'] == row['labelled'] - sum(counts[k] for counts in expected.values())
        assert row['labelled'] == predictions.truth.labelled[~predictions.truth.ignored, k].sum()
    assert diagnosis.outcomes['good'] == sum(row['good'] for row in diagnosis.keypoints.values())
    for kind, counts in expected.items():
        assert diagnosis.outcomes[kind] == counts.sum()
    found = {'matched': len(predictions.persons), 'ignored': 0, 'duplicate': 0, 'background': 0}
    found = {**found, **detections}
    assert diagnosis.detections == {'total': sum(found.values()), 'beyond': 0, **found}


def test_perfect_predictions_have_no_error(predictions):
    diagnosis = diagnose(predictions.truth, predictions.detections())
    expect(diagnosis, predictions)
    assert diagnosis.ap['AP'] == 1
    assert {row['alone'] for row in diagnosis.cured.values()} == {1}
    assert {row['AP'] for row in diagnosis.keypoints.values()} == {1}
    assert {row['PCK'] for row in diagnosis.keypoints.values()} == {1}
    for division in diagnosis.groups.values():
        assert {row['AP'] for row in division.values()} == {1}


@pytest.mark.parametrize('kind', KEYPOINT_KINDS)
@pytest.mark.parametrize('share', [0.02, 0.3])
def test_a_kind_of_keypoint_error_alone(predictions, kind, share):
    corrupt(predictions, kind, share)
    diagnosis = diagnose(predictions.truth, predictions.detections())
    expect(diagnosis, predictions)
    assert diagnosis.ap['AP'] < 1
    assert diagnosis.cured[kind]['alone'] == 1
    assert diagnosis.cured[kind]['gain'] == 1 - diagnosis.ap['AP']
    for other in set(KEYPOINT_KINDS) - {kind}:
        assert diagnosis.cured[other]['gain'] == 0


def test_persons_that_are_not_predicted(predictions):
    corrupt(predictions, 'missed person')
    diagnosis = diagnose(predictions.truth, predictions.detections())
    expect(diagnosis, predictions)
    assert diagnosis.persons['missed'] == 7
    assert diagnosis.ap['AP'] < 1
    assert diagnosis.cured['missed person']['alone'] == 1
    assert diagnosis.cured['miss']['gain'] == diagnosis.cured['background']['gain'] == 0


@pytest.mark.parametrize('kind', ['background', 'duplicate'])
def test_detections_of_nobody_or_of_somebody_twice(predictions, kind):
    corrupt(predictions, kind)
    diagnosis = diagnose(predictions.truth, predictions.detections())
    expect(diagnosis, predictions, **{kind: 7})
    assert diagnosis.cured[kind]['alone'] == 1
    if kind == 'background':  # duplicates are the least sure: AP does not see them
        assert diagnosis.ap['AP'] < 1
        assert diagnosis.cured['score']['alone'] == 1  # their best OKS is 0: they come last


def test_scores_that_put_the_worse_detection_first(predictions):
    """A copy of each person, jittered and surer, takes the person; the better score cures it."""
    predictions.jitter(0.3)
    jittered = predictions.rows()
    clean = Predictions(predictions.truth.path).rows()
    rows = [{**row, 'score': 0.9 + row['score'] / 10} for row in jittered]
    changed = [c for c, j in zip(clean, jittered, strict=True) if c != j]
    detections = check_results(rows + changed, predictions.truth, 'made here')
    diagnosis = diagnose(predictions.truth, detections)
    # COCO gives a copy to a crowd or a person without keypoints, where there is one near.
    found = diagnosis.detections
    assert found['duplicate'] + found['ignored'] == len(changed)
    assert diagnosis.ap['AP'] < 1
    assert diagnosis.cured['score']['alone'] == 1


def test_everything_at_once(predictions):
    for kind in ('missed person', 'background', 'duplicate'):
        corrupt(predictions, kind)
    swaps = len(np.unique(predictions.truth.image_id)) < len(predictions.truth)
    for kind in (*(['swap'] if swaps else []), 'inversion', 'miss', 'jitter'):
        corrupt(predictions, kind, 0.1)
    diagnosis = diagnose(predictions.truth, predictions.detections())
    expect(diagnosis, predictions, background=7, duplicate=7)
    after = [diagnosis.cured[kind]['after'] for kind in CURES]
    assert after[-1] == 1
    gains = [diagnosis.cured[kind]['further_gain'] for kind in CURES]
    assert sum(gains) == pytest.approx(1 - diagnosis.ap['AP'], abs=1e-12)
    for division in diagnosis.groups.values():
        total = {k: sum(row[k] for row in division.values()) for k in diagnosis.outcomes}
        assert total == diagnosis.outcomes
        assert sum(row['persons'] for row in division.values()) == diagnosis.persons['evaluated']


def test_an_error_in_one_group_leaves_the_others_perfect(tmp_path):
    predictions = Predictions(crowd_file(tmp_path))
    area = predictions.truth.area[predictions.persons]
    predictions.points[area < np.quantile(area, 0.25)] += 15  # the smallest quarter, off but near
    groups = diagnose(predictions.truth, predictions.detections()).groups['quartile']
    assert [row['AP'] < 1 for row in groups.values()] == [True, False, False, False]
