"""Annotations are small, and one copy serves all processes: counted by Linux, in real processes.

`benchmarks/annotations.py` measures the same on a file as large as COCO's.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from psa_pose.datasets import CocoDataset, PoseDataLoader
from psa_pose.datasets.cache import MappedPersons
from tests.conftest import ROOT

BENCHMARK = ROOT / 'benchmarks' / 'annotations.py'
IMAGES, ANNOTATIONS, PERSONS = 6_400, 26_200, 15_000  # a tenth of COCO's train2017

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    sys.path.insert(0, str(BENCHMARK.parent))
    try:
        from annotations import write_annotations
    finally:
        sys.path.pop(0)
    path = tmp_path_factory.mktemp('large') / 'annotations.json'
    write_annotations(path, IMAGES, ANNOTATIONS, PERSONS)
    return path


def growth(ann_file, way):
    command = [sys.executable, '-W', 'ignore', str(BENCHMARK), '--measure', way, str(ann_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_tenth_of_coco_takes_a_tenth_of_200_mb(ann_file):
    assert growth(ann_file, 'json')['peak'] > 100  # what it would be: the measure can fail
    first, later = growth(ann_file, 'load'), growth(ann_file, 'load')
    assert first['peak'] < 25  # MB; a fresh process' heap does not grow evenly
    assert first['steady'] < 20
    assert later['peak'] < 8
    # The rest is pages of the file, 4 MB. Python 3.13 itself takes 1.9 for any number of persons.
    assert later['anonymous'] < (2.5 if sys.version_info >= (3, 13) else 1)
    assert later['seconds'] < first['seconds']


class Touch:
    """Reads every annotation of a person; there are no images."""

    def __call__(self, results):
        import numpy as np

        total = results['keypoints'].sum() + results['center'].sum() + len(str(results['img_path']))
        width, height = results['input_size']
        crop = np.zeros((height, width, 3), np.uint8)
        return {**results, 'crop': crop, 'to_image': np.eye(2, 3) * total}


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_read_all_and_own_nothing(ann_file, method):
    dataset = CocoDataset(str(ann_file), [], (6, 8))
    assert isinstance(dataset.persons, MappedPersons)
    dataset.pipeline.append(Touch())
    loader = PoseDataLoader(dataset, 250, train=False, num_workers=2)
    loader.multiprocessing_context = method
    assert sum(len(batch.person) for batch in loader) == PERSONS
    size = dataset.persons.file.stat().st_size / 1024
    assert size > 3000
    for worker in loader.workers:
        mapped = mapping(worker.pid, dataset.persons.file)
        assert mapped['Rss'] > 0.5 * size  # it did read them
        assert mapped['Private_Clean'] + mapped['Private_Dirty'] + mapped['Anonymous'] == 0
        assert mapped['Pss'] < 0.6 * size


def mapping(pid, file: Path):
    """KB of a file in a process, by kind; every mapping of it together."""
    total, inside = {}, False
    for line in Path(f'/proc/{pid}/smaps').read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(':'):
            inside = line.endswith(str(file))
        elif inside and rest[-1] == 'kB':
            total[first[:-1]] = total.get(first[:-1], 0) + int(rest[0])
    return total
