"""Numbers on resampled images equal those of files in which images really stand several times."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.ablation.resampling import resampler
from psa_pose.datasets import CocoStyleDataset
from psa_pose.evaluation import CocoMetric, MetricGroup, PCKAccuracy
from tests.handmade import NAMES, coco_content, image_entry

IMAGES = 5
K = len(NAMES)


def persons_of(rng, image, crowd):
    """Persons of an image: whole, without a labelled keypoint, or a crowd; or none at all."""
    persons = []
    for number in range(rng.integers(0, 4)):
        points = rng.uniform(10, 80, (K, 2))
        seen = rng.integers(0, 3, K) if rng.random() < 0.8 else np.zeros(K, int)
        flat = np.concatenate([points, seen[:, None]], 1)
        persons.append(
            {
                'id': 100 * image + number + 1,
                'image_id': image,
                'category_id': 7,
                'bbox': [5, 5, 80, 80],
                'area': float(rng.uniform(50, 6000)),
                'keypoints': flat.ravel().tolist(),
                'num_keypoints': int((seen > 0).sum()),
                'iscrowd': int(crowd and rng.random() < 0.3),
            }
        )
    return persons


def evaluated(folder, seed, detections, crowd):
    """A metric with predictions for a detector's boxes, also where nobody stands."""
    rng = np.random.default_rng(seed)
    images = [image_entry(i) for i in range(1, IMAGES + 1)]
    persons = [p for image in images for p in persons_of(rng, image['id'], crowd)]
    if not any(p['num_keypoints'] and not p['iscrowd'] for p in persons):
        return evaluated(folder, seed + 1000, detections, crowd)
    content = coco_content(persons, images)
    (folder / 'annotations.json').write_text(json.dumps(content))
    counts = rng.integers(0, detections + 1, IMAGES)
    counts[rng.integers(IMAGES)] = detections
    found = np.repeat(np.arange(1, IMAGES + 1), counts)
    scores = rng.permutation(np.linspace(0.1, 0.9, len(found)))  # no ties
    boxes = [
        {'image_id': int(i), 'category_id': 7, 'bbox': [5, 5, 80, 80], 'score': float(s)}
        for i, s in zip(found, scores, strict=True)
    ]
    (folder / 'boxes.json').write_text(json.dumps(boxes))
    dataset = CocoStyleDataset(
        'annotations.json', [], (48, 64), str(folder), bbox_file=str(folder / 'boxes.json')
    )
    metric = CocoMetric(dataset, score_mode='bbox', nms_mode='none')
    keypoints = rng.uniform(10, 80, (len(dataset), K, 2))
    for i, image in enumerate(dataset.persons.image_id):  # half of them near somebody
        near = [p for p in persons if p['image_id'] == image]
        if near and rng.random() < 0.6:
            chosen = np.reshape(near[rng.integers(len(near))]['keypoints'], (K, 3))[:, :2]
            keypoints[i] = chosen + rng.normal(0, 3, (K, 2))
    metric.process(
        np.arange(len(dataset)), np.ones(len(dataset), bool), keypoints, np.ones((len(dataset), K))
    )
    return metric, content


def duplicated(metric, content, weights, thresholds):
    """pycocotools' AP of a file in which every image stands as often as its weight says."""
    truth, results = {**content, 'images': [], 'annotations': []}, []
    new, annotation = 0, 0
    for image, weight in zip(content['images'], weights, strict=True):
        for _ in range(weight):
            new += 1
            truth['images'].append({**image, 'id': new})
            for person in content['annotations']:
                if person['image_id'] == image['id']:
                    annotation += 1
                    truth['annotations'].append({**person, 'id': annotation, 'image_id': new})
            results += [
                {**r, 'image_id': new} for r in metric.results() if r['image_id'] == image['id']
            ]
    if not results:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), 'keypoints')
        evaluation.params.kpt_oks_sigmas = np.array(metric.dataset.info.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][thresholds, :, 0, 0, 0]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else -1.0


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    weights=st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES),
    detections=st.sampled_from([1, 4, 25]),  # 25: COCO looks at 20
    crowd=st.booleans(),
    name=st.sampled_from(['AP', 'AP50', 'AP75']),
)
def test_equal_to_pycocotools_on_duplicated_images(
    tmp_path_factory, seed, weights, detections, crowd, name
):
    metric, content = evaluated(tmp_path_factory.mktemp('data'), seed, detections, crowd)
    thresholds = {'AP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)}[name]
    expected = duplicated(metric, content, weights, thresholds)
    found = resampler(metric, name)
    assert found.image_ids.tolist() == list(range(1, IMAGES + 1))
    if expected is not None:
        assert found.values(np.array([weights]))[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('seed', range(5))
def test_every_image_once_is_the_number_itself(tmp_path, seed):
    metric, _ = evaluated(tmp_path, seed, 6, crowd=True)
    numbers = metric.compute()
    for name in ('AP', 'AP50', 'AP75'):
        value = resampler(metric, name).values(np.ones((1, IMAGES)))[0]
        assert value == pytest.approx(numbers[name], abs=1e-9)


def test_persons_whom_no_detection_found_count_as_missed(tmp_path):
    """Their images have no box, so they are in the ground truth alone."""
    metric, content = evaluated(tmp_path, 3, 4, crowd=False)
    boxes = json.loads((tmp_path / 'boxes.json').read_text())
    counted = {p['image_id'] for p in content['annotations'] if p['num_keypoints']}
    without = next(i for i in sorted(counted) if any(b['image_id'] == i for b in boxes))
    left = [box for box in boxes if box['image_id'] != without]
    (tmp_path / 'boxes.json').write_text(json.dumps(left))
    files = {'bbox_file': str(tmp_path / 'boxes.json')}
    dataset = CocoStyleDataset('annotations.json', [], (48, 64), str(tmp_path), **files)
    fewer = CocoMetric(dataset, score_mode='bbox', nms_mode='none')
    kept = [i for i, image in enumerate(metric.dataset.persons.image_id) if image != without]
    points = np.array([metric.predictions[i][0] for i in kept])
    count = len(kept)
    fewer.process(np.arange(count), np.ones(count, bool), points, np.ones((count, K)))
    assert without not in dataset.persons.image_id
    value = resampler(fewer, 'AP').values(np.ones((1, IMAGES)))[0]
    assert value == pytest.approx(fewer.compute()['AP'], abs=1e-9)


def gt_metric(folder, seed, cls, **options):
    rng = np.random.default_rng(seed)
    images = [image_entry(i) for i in range(1, IMAGES + 1)]
    persons = [p for image in images for p in persons_of(rng, image['id'], False)]
    (folder / 'annotations.json').write_text(json.dumps(coco_content(persons, images)))
    dataset = CocoStyleDataset('annotations.json', [], (48, 64), str(folder))
    metric = cls(dataset, **options)
    labels = dataset.persons.keypoints[..., :2]
    points = labels + rng.normal(0, 20, labels.shape)
    count = len(dataset)
    metric.process(np.arange(count), np.ones(count, bool), points, np.ones((count, K)))
    return metric


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), data=st.data(), name=st.sampled_from(['PCK', 'tPCK']))
def test_pck_counts_the_persons_of_an_image_as_often_as_it_stands(
    tmp_path_factory, seed, data, name
):
    metric = gt_metric(tmp_path_factory.mktemp('data'), seed, PCKAccuracy, thr=0.2)
    metric.norm_items, metric.names = ('bbox', 'torso'), ('PCK', 'tPCK')  # hands have no torso
    metric.sizes['torso'] = np.random.default_rng(seed).choice([0, 20, 90], len(metric.dataset))
    sizes = metric.sizes['bbox' if name == 'PCK' else 'torso']
    found = resampler(metric, name)
    size = len(found.image_ids)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    times = np.array(weights)[np.searchsorted(found.image_ids, metric.dataset.persons.image_id)]
    rows = np.repeat(np.arange(len(metric.dataset)), times * (sizes > 0))
    share = metric.distances()[rows] / sizes[rows, None]
    labelled = metric.labelled[rows]
    shares = [np.mean(share[labelled[:, k], k] < 0.2) for k in range(K) if labelled[:, k].any()]
    expected = np.mean(shares) if shares else -1.0
    assert found.values(np.array([weights]))[0] == pytest.approx(expected, abs=1e-12)


def test_a_prefix_belongs_to_the_name_and_other_numbers_are_not_known(tmp_path):
    first = gt_metric(tmp_path, 1, PCKAccuracy, thr=0.2)
    second = PCKAccuracy(first.dataset, thr=0.05)
    group = MetricGroup([first, second], ['loose', 'tight'])
    loose = gt_metric(tmp_path, 1, PCKAccuracy, thr=0.2)
    predictions = loose.predictions
    for person, (points, scores) in predictions.items():
        group.process(np.array([person]), np.ones(1, bool), points[None], scores[None])
    numbers = group.compute()
    for name in ('loose/PCK', 'tight/PCK'):
        found = resampler(group, name)
        assert found.values(np.ones((1, len(found.image_ids))))[0] == pytest.approx(numbers[name])
    assert numbers['loose/PCK'] > numbers['tight/PCK']
    assert resampler(group, 'PCK') is None
    assert resampler(CocoMetric(first.dataset), 'AR') is None
