"""OKS-AP of made results in the shape of COCO val2017: pycocotools and PSA-Pose, in one run.

    python benchmarks/coco_eval.py
    python benchmarks/coco_eval.py --images 500 --persons 1100 --detections 10400

Both evaluate the same rows, on one thread each: loading the results, matching, summarising. What
PSA-Pose does before that (reading ground truth and detections, suppressing doubles, building the
rows) is timed by itself. Seconds are the process' own, so that other work on the machine counts
little; contestants take turns, and the ratio is the median of the rounds' ratios. The ten numbers
must be equal to the last digit, or the exit status is 1.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.datasets import CocoDataset
from psa_pose.evaluation import CocoMetric
from psa_pose.evaluation.coco_ap import keypoint_ap, load_results
from psa_pose.structures import COCO_KEYPOINTS

WIDTH, HEIGHT = 640, 480
TARGET = 5


@contextlib.contextmanager
def timed(seconds: dict[str, list[float]], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds.setdefault(name, []).append(time.process_time() - start)


def made_persons(rng: np.random.Generator, images: int, persons: int) -> dict[str, Any]:
    """A ground truth: 4 in 10 persons without keypoints, 2 in 100 crowds, as in COCO."""
    size = np.exp(rng.normal(4.5, 0.7, (persons, 1))) * rng.uniform(0.6, 1.6, (persons, 2))
    size = np.minimum(size, [WIDTH - 1, HEIGHT - 1])
    corner = rng.uniform(0, 1, (persons, 2)) * ([WIDTH, HEIGHT] - size)
    keypoints = np.zeros((persons, 17, 3))
    keypoints[..., :2] = corner[:, None] + rng.uniform(0, 1, (persons, 17, 2)) * size[:, None]
    keypoints[..., 2] = rng.choice([0, 1, 2], (persons, 17), p=[0.3, 0.1, 0.6])
    keypoints[rng.random(persons) < 0.4] = 0
    keypoints[keypoints[..., 2] == 0] = 0
    crowd = rng.random(persons) < 0.02
    category = {'id': 1, 'name': 'person', 'keypoints': list(COCO_KEYPOINTS.names)}
    return {
        'images': [
            {'id': i, 'file_name': f'{i}.jpg', 'width': WIDTH, 'height': HEIGHT}
            for i in range(1, images + 1)
        ],
        'categories': [category],
        'annotations': [
            {
                'id': i + 1,
                'image_id': int(image),
                'category_id': 1,
                'bbox': [*corner[i].round(2).tolist(), *size[i].round(2).tolist()],
                'area': float(size[i].prod() * 0.6),
                'keypoints': np.where(crowd[i], 0, keypoints[i]).round().ravel().tolist(),
                'num_keypoints': 0 if crowd[i] else int((keypoints[i, :, 2] > 0).sum()),
                'iscrowd': int(crowd[i]),
            }
            for i, image in enumerate(rng.integers(1, images + 1, persons))
        ],
    }


def made_detections(
    rng: np.random.Generator, truth: dict[str, Any], count: int
) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Boxes, keypoints (D, 17, 2) and keypoint scores (D, 17): some near a person, most not."""
    persons = truth['annotations']
    of = rng.integers(0, len(persons), count)
    boxes = np.array([p['bbox'] for p in persons])[of]
    labels = np.array([p['keypoints'] for p in persons]).reshape(-1, 17, 3)[of]
    near = rng.random(count) < 0.25
    image = np.array([p['image_id'] for p in persons])[of]
    image[~near] = rng.integers(1, len(truth['images']) + 1, (~near).sum())
    scale = np.sqrt(boxes[:, 2:].prod(1))[:, None]
    boxes[:, :2] = np.maximum(boxes[:, :2] + rng.normal(0, 0.05, (count, 2)) * scale, 0)
    random = boxes[:, None, :2] + rng.uniform(0, 1, (count, 17, 2)) * boxes[:, None, 2:]
    keypoints = np.where(labels[..., 2:] > 0, labels[..., :2], random)
    spread = 0.08 * rng.exponential(1, (count, 1, 1)) * scale[:, None]
    keypoints = keypoints + rng.normal(0, 1, keypoints.shape) * spread
    score = np.where(near, rng.beta(4, 2, count), rng.beta(1, 6, count))
    entries = [
        {'image_id': int(i), 'category_id': 1, 'bbox': b, 'score': float(s)}
        for i, b, s in zip(image, boxes.round(2).tolist(), score, strict=True)
    ]
    return entries, keypoints.astype(np.float32), rng.random((count, 17)).astype(np.float32)


def pycocotools_stats(truth: COCO, rows: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(rows), 'keypoints')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--persons', type=int, default=11000)
    parser.add_argument('--detections', type=int, default=104125)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    content = made_persons(rng, args.images, args.persons)
    detections, keypoints, scores = made_detections(rng, content, args.detections)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ann_file, bbox_file = Path(folder, 'truth.json'), Path(folder, 'boxes.json')
        ann_file.write_text(json.dumps(content))
        bbox_file.write_text(json.dumps(detections))
        with timed(seconds, 'read detections'):
            dataset = CocoDataset(str(ann_file), [], (192, 256), bbox_file=str(bbox_file))
        with timed(seconds, 'read ground truth'):
            metric = CocoMetric(dataset)
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(ann_file))
    for first in range(0, len(dataset), 64):
        rows_of = dataset.persons.id[first : first + 64]
        persons = np.arange(first, first + len(rows_of))
        metric.process(persons, np.ones(len(persons), bool), keypoints[rows_of], scores[rows_of])

    theirs, ours = 'evaluation, pycocotools', 'evaluation, psa_pose'
    for _ in range(args.rounds):
        with timed(seconds, 'suppression, result rows'):
            rows = metric.results()
        with timed(seconds, theirs):
            expected = pycocotools_stats(truth, rows)
        with timed(seconds, ours):
            results = load_results(metric.truth, rows)
            numbers = keypoint_ap(metric.truth, results, 1, dataset.info.sigmas)
    print(f'{len(dataset)} predictions, {len(rows)} rows, {args.images} images')
    for name, times in seconds.items():
        print(f'{name:25s} {statistics.median(times):6.2f} s')
    print('  '.join(f'{name} {value:.4f}' for name, value in numbers.items()))
    ratios = [a / b for a, b in zip(seconds[theirs], seconds[ours], strict=True)]
    print(f'psa_pose evaluates {statistics.median(ratios):.1f} times as fast (target {TARGET})')
    same = list(numbers.values()) == expected
    print('the ten numbers are equal' if same else f'NOT EQUAL: pycocotools {expected}')
    return 0 if same else 1


if __name__ == '__main__':
    sys.exit(main())
