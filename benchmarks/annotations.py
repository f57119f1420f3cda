"""What annotations cost: time to load, memory of the process, memory of each worker.

    python benchmarks/annotations.py
    python benchmarks/annotations.py --images 640 --annotations 2600 --persons 1500 --json FILE

The file is made in the shape of COCO's person_keypoints_train2017.json, 240 MB: 64,115 images,
262,465 annotations with outlines, of which 150,000 persons can be used. Every figure comes from a
fresh process, as the growth of its memory (Linux' own count): `json.loads`, the first load, later
ones (mapped from a file), and without that file. Then workers, forked and spawned, load every
person once; beside them stand workers of a dataset with a hundredth of the persons, loaded as
often in all, so that the difference is what the annotations cost. Private memory is a worker's
alone; a page that n processes share counts 1/n in the sum (PSS).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 480
MB = 1 << 20
NO_CACHE = {'PSA_POSE_CACHE': 'off'}


def write_annotations(path: Path, images: int, annotations: int, persons: int) -> None:
    """A file as COCO's, entry by entry; the first `persons` annotations have keypoints."""
    from psa_pose.structures import COCO_KEYPOINTS

    rng = np.random.default_rng(0)
    category = {'id': 1, 'name': 'person', 'keypoints': list(COCO_KEYPOINTS.names)}
    with path.open('w') as file:
        file.write('{"info": {"description": "made"}, "licenses": [], "images": [')
        for i in range(images):
            file.write((', ' if i else '') + json.dumps(_image(i)))
        file.write('], "annotations": [')
        for i in range(annotations):
            entry = _annotation(rng, i, images, labelled=i < persons)
            file.write((', ' if i else '') + json.dumps(entry))
        file.write(f'], "categories": [{json.dumps(category)}]}}')


def _image(i: int) -> dict[str, Any]:
    name = f'{i:012d}.jpg'
    return {
        'license': 3,
        'file_name': name,
        'coco_url': f'http://images.example/train2017/{name}',
        'height': HEIGHT,
        'width': WIDTH,
        'date_captured': '2013-11-14 17:02:52',
        'flickr_url': 'http://farm9.static.example/8186/8119368305_4e622c8349_z.jpg',
        'id': i,
    }


def _annotation(rng: np.random.Generator, i: int, images: int, labelled: bool) -> dict[str, Any]:
    keypoints = rng.integers(0, HEIGHT, (17, 3))
    keypoints[:, 2] = rng.choice([0, 1, 2], 17, p=[0.3, 0.1, 0.6])
    keypoints[0, 2] = 2
    keypoints[keypoints[:, 2] == 0] = 0
    keypoints *= labelled
    outline = rng.uniform(0, WIDTH, 2 * int(rng.integers(10, 55))).round(2)
    return {
        'segmentation': [outline.tolist()],
        'num_keypoints': int((keypoints[:, 2] > 0).sum()),
        'area': float(rng.uniform(100, 40000).__round__(4)),
        'iscrowd': 0,
        'keypoints': keypoints.ravel().tolist(),
        'image_id': i % images,
        'bbox': rng.uniform(1, 300, 4).round(2).tolist(),
        'category_id': 1,
        'id': 1000 + i,
    }


def memory(pid: int | str = 'self') -> dict[str, float]:
    """MB: resident now and at most, of which anonymous; private and proportional."""
    lines = Path(f'/proc/{pid}/status').read_text() + Path(f'/proc/{pid}/smaps_rollup').read_text()
    kib = {}
    for line in lines.splitlines():
        parts = line.split()
        if parts[-1:] == ['kB']:
            kib[parts[0].rstrip(':')] = int(parts[1])
    return {
        'peak': kib['VmHWM'] / 1024,
        'steady': kib['VmRSS'] / 1024,
        'anonymous': kib['RssAnon'] / 1024,
        'private': (kib['Private_Clean'] + kib['Private_Dirty']) / 1024,
        'pss': kib['Pss'] / 1024,
    }


def measure_loading(ann_file: Path, way: str) -> dict[str, float]:
    """Of this process."""
    from psa_pose.datasets import CocoDataset

    before, start = memory(), time.perf_counter()
    if way == 'json':
        kept: Any = json.loads(ann_file.read_bytes())
    else:
        kept = CocoDataset(str(ann_file), [], (192, 256))
    seconds = time.perf_counter() - start
    after = memory()
    assert kept
    names = ('peak', 'steady', 'anonymous')
    return {'seconds': seconds, **{name: after[name] - before[name] for name in names}}


def measure_workers(ann_file: Path, count: int, method: str, samples: int) -> dict[str, float]:
    """Of each of this process' workers, on average, after `samples` persons."""
    from psa_pose.datasets import CocoDataset, PoseDataLoader
    from psa_pose.datasets.annotations import Persons

    dataset = CocoDataset(str(ann_file), [], (6, 8))
    dataset.pipeline.append(Blank())
    loader = PoseDataLoader(Repeated(dataset, samples), 256, train=False, num_workers=count)
    loader.multiprocessing_context = method
    for _ in loader:
        pass
    each = [memory(worker.pid or 0) for worker in loader.workers]
    mine = memory()
    return {
        'private': float(np.mean([m['private'] for m in each])),
        'pss': sum(m['pss'] for m in each) + mine['pss'],
        'arrays': sum(getattr(dataset.persons, f.name).nbytes for f in fields(Persons)) / MB,
    }


class Repeated:
    """A dataset's persons again and again, up to a number of samples."""

    def __init__(self, dataset: Any, samples: int) -> None:
        self.dataset, self.samples = dataset, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, key: Any) -> Any:
        return self.dataset[key.person % len(self.dataset)]


class Blank:
    """Stands for loading and cutting out; every annotation of the person is read."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        width, height = results['input_size']
        return {
            **results,
            'crop': np.full((height, width, 3), len(results['img_path'].name), np.uint8),
            'to_image': np.eye(2, 3) * results['keypoints'].sum() * results['center'].sum(),
        }


def fresh(*arguments: object, **environment: str) -> dict[str, float]:
    """What a process of its own measures."""
    command = [sys.executable, '-W', 'ignore', __file__, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=1800
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def run(folder: Path, images: int, annotations: int, persons: int, workers: int) -> dict[str, Any]:
    """All figures; the file is made where it is not there yet."""
    ann_file, small = folder / 'annotations.json', folder / 'small.json'
    if not ann_file.is_file():
        write_annotations(ann_file, images, annotations, persons)
    hundredth = max(1024, persons // 100)
    write_annotations(small, hundredth, hundredth, hundredth)
    for cache in folder.glob('*.psa_pose'):
        cache.unlink()
    size = {'megabytes': ann_file.stat().st_size / 1e6, 'persons': persons}
    loading = {
        'json.loads': fresh('--measure', 'json', ann_file),
        'first load': fresh('--measure', 'load', ann_file),
        'later loads': fresh('--measure', 'load', ann_file),
        'without a cache': fresh('--measure', 'load', ann_file, **NO_CACHE),
    }
    each = {}
    for method, environment in (('fork', {}), ('spawn', {}), ('fork', NO_CACHE)):
        about = ('--workers', workers, '--method', method, '--persons', persons)
        whole = fresh('--measure', 'workers', ann_file, *about, **environment)
        part = fresh('--measure', 'workers', small, *about, **environment)
        name = f'{method}, without a cache' if environment else method
        each[name] = {
            'private': whole['private'],
            'private, few persons': part['private'],
            'all processes': whole['pss'],
            'all processes, few persons': part['pss'],
            'one copy': whole['arrays'],
        }
    return {'file': size, 'loading': loading, 'workers': each}


def show(results: dict[str, Any]) -> None:
    size = results['file']
    print(f'{size["megabytes"]:.0f} MB of JSON, {size["persons"]} persons\n')
    print(f'{"loading":<18}{"seconds":>9}{"peak MB":>9}{"steady MB":>11}{"of it anonymous":>17}')
    for name, m in results['loading'].items():
        print(
            f'{name:<18}{m["seconds"]:>9.2f}{m["peak"]:>9.0f}{m["steady"]:>11.0f}'
            f'{m["anonymous"]:>17.0f}'
        )
    print(
        f'\n{"workers, MB":<24}{"private to each":>17}{"(few persons)":>15}'
        f'{"all processes":>15}{"(few persons)":>15}{"one copy":>10}'
    )
    for name, m in results['workers'].items():
        values = zip(m.values(), (17, 15, 15, 15, 10), strict=True)
        print(f'{name:<24}' + ''.join(f'{value:>{width}.1f}' for value, width in values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=64_115)
    parser.add_argument('--annotations', type=int, default=262_465)
    parser.add_argument('--persons', type=int, default=150_000, help='of them with keypoints')
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--folder', type=Path, help='for the files, which then stay')
    parser.add_argument('--json', type=Path, metavar='FILE', help='the figures')
    parser.add_argument('--measure', nargs=2, help=argparse.SUPPRESS)
    parser.add_argument('--method', default='fork', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        way, ann_file = args.measure[0], Path(args.measure[1])
        if way == 'workers':
            found = measure_workers(ann_file, args.workers, args.method, args.persons)
        else:
            found = measure_loading(ann_file, way)
        print(json.dumps(found))
        return
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        results = run(folder, args.images, args.annotations, args.persons, args.workers)
    show(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
