"""The worst persons come first, with the errors that were put in named under them."""

import re

import cv2
import numpy as np
import pytest

from psa_pose.cli import main
from psa_pose.errors import DataError
from psa_pose.visualization.worst import worst_panels
from tests.corrupted import Predictions, crowd_file
from tests.handmade import picture


@pytest.fixture
def crowd(tmp_path):
    """Predictions that are right, of images that are there."""
    predictions = Predictions(crowd_file(tmp_path, images=3))
    for image in range(1, 5):
        cv2.imwrite(str(tmp_path / f'{image}.png'), picture(image, (640, 160)))
    return predictions


def panels(predictions, root, count=12):
    return worst_panels(predictions.truth, predictions.detections(), root, count)


def test_worst_first_and_the_errors_named(crowd, tmp_path):
    spoilt = crowd.persons[5]
    labelled = np.flatnonzero(crowd.truth.labelled[spoilt])[:2]
    crowd.points[5, labelled] += (0, 400)
    found = panels(crowd, tmp_path)
    assert len(found) == 12
    values = [float(re.match(r'OKS (\d\.\d\d)', caption).group(1)) for caption, _ in found]
    assert values == sorted(values)
    assert values[0] < 0.9 < values[1]
    names = ', '.join(crowd.truth.info.names[k].replace('_', ' ') for k in labelled)
    caption, image = found[0]
    assert caption.endswith(
        f'{crowd.truth.image_id[spoilt]}.png, annotation {crowd.truth.id[spoilt]}\nmiss: {names}'
    )
    assert '\n' not in found[1][0]
    assert image.shape[2] == 3


def test_right_predictions_look_like_the_truth_and_wrong_ones_do_not(crowd, tmp_path):
    crowd.points[0, 0] += (30, 40)
    found = panels(crowd, tmp_path)
    differences = []
    for _, image in found:
        half = (image.shape[1] - 4) // 2
        left, right = image[24:, :half].astype(int), image[24:, half + 4 :].astype(int)
        differences.append(np.abs(left - right).mean())
    assert differences[0] > 1
    assert max(differences[1:]) < 0.5  # nothing but the right's drawing of unlabelled keypoints


def test_the_missed_come_first_with_the_prediction_that_failed(crowd, tmp_path):
    gone, far = crowd.persons[0], crowd.persons[1]
    crowd.points[1] += 70  # far enough for no OKS, near enough to show
    for name in ('persons', 'points', 'score', 'spoilt', 'allowed'):
        setattr(crowd, name, getattr(crowd, name)[1:])
    captions = [caption for caption, _ in panels(crowd, tmp_path, 3)]
    missed = {c.split('annotation ')[1].split('\n')[0]: c for c in captions[:2]}
    assert set(missed) == {str(crowd.truth.id[gone]), str(crowd.truth.id[far])}
    assert all(c.startswith('missed') for c in missed.values())
    assert 'nearest prediction: OKS 0.0' in missed[str(crowd.truth.id[far])]
    assert captions[2].startswith('OKS 1.00')


def test_what_is_absurdly_far_off_can_be_drawn(crowd, tmp_path):
    crowd.points[0, 0] = (1e12, -1e12)
    caption, image = panels(crowd, tmp_path, 1)[0]
    assert 'miss: head' in caption
    assert max(image.shape) < 1000


def test_an_image_that_is_not_there_is_named(crowd, tmp_path):
    crowd.points[0] += 50
    (tmp_path / '1.png').unlink()
    with pytest.raises(DataError, match=r'1\.png'):
        panels(crowd, tmp_path, 1)


def test_the_command_adds_a_sheet(crowd, tmp_path, capsys):
    import json

    results = tmp_path / 'results.json'
    results.write_text(json.dumps(crowd.rows()))
    command = ['analyze-errors', str(results), '--ann', str(tmp_path / 'crowd.json')]
    more = ['--images', str(tmp_path), '--worst', '4']
    assert main([*command, *more]) == 1
    assert '--out' in capsys.readouterr().err
    assert main([*command, *more, '--out', str(tmp_path / 'out')]) == 0
    assert f'written   {tmp_path}/out/worst.jpg' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'out/worst.jpg')).shape[0] > 400
    assert main([*command, '--out', str(tmp_path / 'out'), *more[:2], '--worst', '0']) == 1
    assert '--worst must be at least 1' in capsys.readouterr().err
