"""Evaluation with a detector's boxes, as a user runs it: real processes on real files."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from tests.conftest import RunTool

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh weights: what matters here is where the boxes come from."""
    from psa_pose import build_model
    from psa_pose.engine.config import load_config
    from psa_pose.structures import COCO_KEYPOINTS

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'fresh.pth'
    torch.save(build_model(load_config(CONFIG), COCO_KEYPOINTS).state_dict(), path)
    return path


@pytest.fixture(scope='module')
def boxes(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jittered boxes of the ground truth, a double, a dog, one without size, one outside."""
    truth = json.loads((demo_root / 'annotations' / 'person_keypoints_val.json').read_text())
    rng = np.random.default_rng(0)
    entries: list[dict[str, Any]] = [
        {
            'image_id': person['image_id'],
            'category_id': 1,
            'bbox': (np.array(person['bbox']) + rng.uniform(-3, 3, 4)).tolist(),
            'score': float(rng.uniform(0.1, 1)),
        }
        for person in truth['annotations']
        for _ in range(2)
    ]
    entries += [
        entries[0],
        {**entries[0], 'category_id': 18},
        {**entries[0], 'bbox': [3, 4, 0, 5]},
        {**entries[0], 'bbox': [9000, 4, 5, 5]},
    ]
    path = tmp_path_factory.mktemp('boxes') / 'detections.json'
    path.write_text(json.dumps(entries))
    return path


def options(root: Path, *more: str) -> list[str]:
    return [
        '--cfg-options',
        f'val_dataloader.dataset.data_root={root}',
        'val_dataloader.num_workers=0',
        *more,
    ]


def line(text: str, start: str) -> str:
    (found,) = [part for part in text.splitlines() if part.startswith(start)]
    return found


def one_line(text: str) -> str:
    return ' '.join(text.split())


def test_detections(
    demo_root: Path, checkpoint: Path, boxes: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    done = run_tool(
        'test', CONFIG, checkpoint, '--boxes', boxes, '--metrics', tmp_path / 'm.json',
        '--out', tmp_path / 'r.json', '--show-dir', tmp_path / 'pictures', *options(demo_root),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    total = len(json.loads(boxes.read_text()))
    source = f'detections detections.json ({total - 4} of {total}, score > 0.0)'
    assert line(done.stdout, 'boxes') == (
        f'boxes     {source}; left out: 1 of other categories, 1 of zero size, 1 outside their '
        'image, 1 doubles (same image, same box)'
    )
    assert f'OKS-AP, boxes: {source}, 8 images of person_keypoints_val.json' in one_line(
        done.stdout
    )
    assert 'ground truth' not in done.stdout
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics['boxes'] == source and set(metrics) > {'AP', 'AR'}

    ann_file = demo_root / 'annotations' / 'person_keypoints_val.json'
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(ann_file)).loadRes(str(tmp_path / 'r.json'))
    assert 0 < len(loaded.anns) <= total - 4
    assert len(list((tmp_path / 'pictures').glob('*.jpg'))) == 8


def test_the_command_line_wins_over_the_config(
    demo_root: Path, checkpoint: Path, boxes: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    dataset = 'val_dataloader.dataset'
    more = options(demo_root, f'{dataset}.bbox_file={boxes}', f'{dataset}.box_score_thr=0.4')
    metrics = tmp_path / 'm.json'
    for arguments, expected in (
        (['--box-thr', 0.5], 'score > 0.5)'),
        (['--boxes', 'gt'], 'ground truth'),
    ):
        done = run_tool('test', CONFIG, checkpoint, *arguments, '--metrics', metrics, *more)
        assert done.returncode == 0, done.stderr
        assert json.loads(metrics.read_text())['boxes'].endswith(expected)


def refused(done: Any, *parts: str) -> None:
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert 'Traceback' not in done.stderr + done.stdout
    message = line(done.stderr, 'error: ')
    for part in parts:
        assert part in message, message


def test_never_a_silent_fall_back(
    demo_root: Path, checkpoint: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    done = run_tool(
        'test', CONFIG, checkpoint, '--boxes', tmp_path / 'none.json', *options(demo_root)
    )
    refused(done, 'none.json', 'No such file')


def test_images_of_another_split(
    demo_root: Path, checkpoint: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    entries = [{'image_id': 900, 'category_id': 1, 'bbox': [1, 1, 9, 9], 'score': 0.5}] * 2
    (tmp_path / 'b.json').write_text(json.dumps(entries))
    done = run_tool('test', CONFIG, checkpoint, '--boxes', tmp_path / 'b.json', *options(demo_root))
    refused(done, 'image id 900 (entry 0)', 'person_keypoints_val.json', '2 of 2 detections')


def test_a_threshold_without_detections(
    demo_root: Path, checkpoint: Path, run_tool: RunTool
) -> None:
    done = run_tool('test', CONFIG, checkpoint, '--box-thr', 0.3, *options(demo_root))
    refused(done, 'val_dataloader.dataset', 'no bbox_file is set')


def test_detections_are_not_trained_on(
    demo_root: Path, boxes: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    truth = demo_root / 'annotations' / 'person_keypoints_val.json'
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path, '--dry-run',
        *options(
            demo_root,
            f'train_dataloader.dataset.data_root={demo_root}',
            f'train_dataloader.dataset.ann_file={truth}',
            f'train_dataloader.dataset.bbox_file={boxes}',
        ),
    )  # fmt: skip
    refused(done, 'train_dataloader.dataset.bbox_file', 'no keypoints to train on')


class TestSubmission:
    """Annotations absent, as in COCO's image_info_test-dev2017.json."""

    @pytest.fixture
    def info(self, demo_root: Path, tmp_path: Path) -> Path:
        content = json.loads((demo_root / 'annotations' / 'person_keypoints_val.json').read_text())
        categories = [
            {'id': 1, 'name': 'person', 'supercategory': 'person'},
            {'id': 18, 'name': 'dog', 'supercategory': 'animal'},
        ]
        path = tmp_path / 'image_info_test.json'
        path.write_text(json.dumps({'images': content['images'], 'categories': categories}))
        return path

    def arguments(self, demo_root: Path, info: Path) -> list[str]:
        dataset = 'val_dataloader.dataset'
        return options(demo_root, f'{dataset}.ann_file={info}', f'{dataset}.type=CocoDataset')

    def test_it_is_written(
        self,
        demo_root: Path,
        checkpoint: Path,
        boxes: Path,
        info: Path,
        tmp_path: Path,
        run_tool: RunTool,
    ) -> None:
        out, metrics = tmp_path / 'submission.json', tmp_path / 'm.json'
        done = run_tool(
            'test', CONFIG, checkpoint, '--boxes', boxes, '--out', out, '--metrics', metrics,
            *self.arguments(demo_root, info),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        expected = f'metrics   none: {info} has no annotations, and {metrics} is not written'
        assert line(done.stdout, 'metrics') == expected
        assert not metrics.exists() and 'AP' not in done.stdout
        rows = json.loads(out.read_text())
        images = {image['id'] for image in json.loads(info.read_text())['images']}
        assert {row['image_id'] for row in rows} == images
        assert all(len(row['keypoints']) == 51 and row['category_id'] == 1 for row in rows)

    def test_boxes_are_needed(
        self, demo_root: Path, checkpoint: Path, info: Path, tmp_path: Path, run_tool: RunTool
    ) -> None:
        done = run_tool(
            'test', CONFIG, checkpoint, '--out', tmp_path / 's.json', '--boxes', 'gt',
            *self.arguments(demo_root, info),
        )  # fmt: skip
        refused(done, str(info), 'has no annotations', '--boxes FILE')

    def test_and_a_place_to_write_to(
        self, demo_root: Path, checkpoint: Path, boxes: Path, info: Path, run_tool: RunTool
    ) -> None:
        done = run_tool(
            'test', CONFIG, checkpoint, '--boxes', boxes, *self.arguments(demo_root, info)
        )
        refused(done, 'has no annotations', '--out')
