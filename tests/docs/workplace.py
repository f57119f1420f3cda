"""The folder that a page's blocks run in: like a checkout with data, but small.

Configs are copies to which lines are added that shrink networks, batches and schedules; COCO, MPII
and LSPET are a few rendered people in the layout of the real ones. What the pages say stays as is.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.docs.pages import ROOT
from tests.mpii_mat import write_truth

DEMO_CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
COCO_BOXES = 'COCO_val2017_detections_AP_H_56_person.json'
COCO_TEST_BOXES = 'COCO_test-dev2017_detections_AP_H_609_person.json'
_SMALL = {
    '_base_/models/*w[34]*.py': "model['backbone']['arch'] = 'tiny'",
    '_base_/models/simplebaseline_*.py': "model['backbone']['depth'] = 18",
    '_base_/datasets/*.py': (
        'for loader in (train_dataloader, val_dataloader):\n'
        '    loader.update(batch_size=8, num_workers=0)\n'
        'del loader'
    ),
    '_base_/schedules/*.py': 'train_cfg = dict(max_epochs=1, val_interval=1)\nparam_scheduler = []',
    'demo/*.py': 'train_cfg.update(max_epochs=2, val_interval=1)',
    'lspet/*.py': 'train_cfg.update(max_epochs=2, val_interval=2)',
}
_LSP = [
    *('right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle'),
    *('right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder', 'left_elbow', 'left_wrist'),
]


def prepare(folder: Path) -> Path:
    """What every page starts from; the demo's run is trained for two short epochs."""
    shutil.copytree(ROOT / 'configs', folder / 'configs', ignore=shutil.ignore_patterns('__pyc*'))
    for pattern, lines in _SMALL.items():
        for path in (folder / 'configs').glob(pattern):
            with path.open('a') as file:
                file.write(f'\n{lines}\n')
    for name in ('tools', 'benchmarks', 'examples', 'studies'):
        if (ROOT / name).is_dir():
            (folder / name).symlink_to(ROOT / name)
    command(folder, 'psa-pose', 'demo-data', 'data/demo', '--train', '24', '--val', '8')
    _coco(folder / 'data')
    _mpii(folder / 'data')
    _lspet(folder / 'data')
    command(folder, 'psa-pose', 'train', DEMO_CONFIG, '--work-dir', 'work_dirs/demo')
    return folder


def command(folder: Path, *words: str, timeout: float = 600) -> str:
    """Run a command as a reader would; what it prints."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f'{" ".join(words)}\n{done.stdout}'
    return done.stdout


def environment() -> dict[str, str]:
    """With this environment's commands first."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    return {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1'}


def _read(data: Path, split: str) -> dict[str, Any]:
    return json.loads((data / f'demo/annotations/person_keypoints_{split}.json').read_text())


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _coco(data: Path) -> None:
    coco = data / 'coco'
    for split in ('train', 'val'):
        content = _read(data, split)
        _write(coco / f'annotations/person_keypoints_{split}2017.json', content)
        shutil.copytree(data / f'demo/images/{split}', coco / f'{split}2017')
    category = [{'id': 1, 'name': 'person'}]
    test_dev = {'images': content['images'], 'categories': category}
    _write(coco / 'annotations/image_info_test-dev2017.json', test_dev)
    shutil.copytree(coco / 'val2017', coco / 'test2017')
    boxes = [
        {'image_id': a['image_id'], 'category_id': 1, 'bbox': a['bbox'], 'score': 0.9}
        for a in content['annotations']
    ]
    for name in (COCO_BOXES, COCO_TEST_BOXES):
        _write(coco / f'person_detection_results/{name}', boxes)
        _write(data.parent / name, boxes)


def _mpii(data: Path) -> None:
    limbs = [16, 14, 12, 11, 13, 15, 11, 5, 5, 0, 10, 8, 6, 5, 7, 9]  # nearest of COCO's
    for split in ('train', 'val'):
        content, entries = _read(data, split), []
        names = {image['id']: f'{split}_{image["file_name"]}' for image in content['images']}
        for annotation in content['annotations']:
            x, y, width, height = annotation['bbox']
            points = np.array(annotation['keypoints']).reshape(-1, 3)[limbs]
            entries.append(
                {
                    'image': names[annotation['image_id']],
                    'center': [x + width / 2, y + height / 2],
                    'scale': max(width, height) / 200,
                    'joints': (points[:, :2] + 1).tolist(),
                    'joints_vis': (points[:, 2] > 0).astype(int).tolist(),
                    'headbox': [x, y, x + 20, y + 25],
                }
            )
        _write(data / f'mpii/annotations/mpii_{split}.json', entries)
        (data / 'mpii/images').mkdir(exist_ok=True)
        for path in (data / f'demo/images/{split}').iterdir():
            shutil.copy(path, data / f'mpii/images/{split}_{path.name}')
    write_truth(data / 'mpii/annotations/mpii_gt_val.mat', entries)


def _lspet(data: Path) -> None:
    for split, name in (('train', 'train'), ('val', 'dev')):
        content = _read(data, split)
        names = content['categories'][0]['keypoints']
        order = [*(names.index(part) for part in _LSP), names.index('nose'), names.index('nose')]
        keypoints = [*_LSP, 'neck', 'head_top']
        content['categories'] = [{'id': 1, 'name': 'person', 'keypoints': keypoints}]
        for image in content['images']:
            image['file_name'] = f'{split}_{image["file_name"]}'
        for annotation in content['annotations']:
            points = np.array(annotation['keypoints']).reshape(-1, 3)[order]
            annotation['keypoints'] = points.ravel().tolist()
        _write(data / f'lspet/annotations/lspet_{name}.json', content)
        (data / 'lspet/images').mkdir(exist_ok=True)
        for path in (data / f'demo/images/{split}').iterdir():
            shutil.copy(path, data / f'lspet/images/{split}_{path.name}')


if __name__ == '__main__':
    prepare(Path(sys.argv[1]))
