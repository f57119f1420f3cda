"""OKS of all images at once against pycocotools' loop, bit by bit."""

import contextlib
import io

import numpy as np
import pytest
from faster_coco_eval import COCO
from pycocotools import coco as pycoco
from pycocotools.cocoeval import COCOeval

from psa_pose.evaluation.coco_oks import oks_by_image
from psa_pose.structures import COCO_KEYPOINTS

SIGMAS = COCO_KEYPOINTS.sigmas


def made(seed, images=6, persons=14, found=60):
    """A truth with unlabelled and partly labelled persons, and detections of some images."""
    rng = np.random.default_rng(seed)
    labels = np.round(rng.uniform(0, 200, (persons, 17, 3)), 2)
    labels[..., 2] = rng.choice([0, 1, 2], labels.shape[:2])
    labels[::4] = 0
    truth = {
        'images': [{'id': i} for i in range(images)],
        'categories': [{'id': 1, 'name': 'person'}, {'id': 2, 'name': 'dog'}],
        'annotations': [
            {
                'id': i + 1,
                'image_id': int(rng.integers(images)),
                'category_id': 2 if i == 5 else 1,
                'bbox': rng.uniform(0, 100, 4).tolist(),
                'area': float(rng.uniform(100, 9000)),
                'keypoints': row.ravel().tolist(),
                'num_keypoints': int((row[:, 2] > 0).sum()),
                'iscrowd': int(i == 7),
            }
            for i, row in enumerate(labels)
        ],
    }
    near = labels[rng.integers(persons, size=found)] + rng.normal(0, 9, (found, 17, 3))
    rows = [
        {
            'image_id': int(rng.integers(images - 1)),
            'category_id': 1,
            'keypoints': row.ravel().tolist(),
            'score': float(rng.choice([0.2, 0.5, 0.9])),  # many are equal
        }
        for row in near
    ]
    return truth, rows


def pycocotools_oks(truth, rows, max_dets):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = pycoco.COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in rows]), 'keypoints')
    evaluation.params.maxDets = [max_dets]
    evaluation.params.catIds = [1]
    evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)  # its own are off in the last bit
    evaluation._prepare()
    oks = {i: evaluation.computeOks(i, 1) for i in coco.imgs}
    return {i: values for i, values in oks.items() if len(values)}


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('max_dets', [4, 20])
def test_bit_by_bit(seed, max_dets):
    truth, rows = made(seed)
    results = COCO()
    results.dataset = {'annotations': rows}
    ours = oks_by_image(COCO(truth), results, 1, SIGMAS, max_dets)
    expected = pycocotools_oks(truth, rows, max_dets)
    assert ours.keys() == expected.keys()
    for image_id, values in expected.items():
        np.testing.assert_array_equal(ours[image_id], values)


def test_nobody():
    truth, rows = made(0)
    results = COCO()
    results.dataset = {'annotations': []}
    assert oks_by_image(COCO(truth), results, 1, SIGMAS, 20) == {}
    results.dataset = {'annotations': rows}
    assert oks_by_image(COCO({**truth, 'annotations': []}), results, 1, SIGMAS, 20) == {}
