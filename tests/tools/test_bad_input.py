"""Bad input: one clear message, a non-zero exit, no traceback. Real processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import RunTool

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


@pytest.fixture
def root(demo_root: Path, tmp_path: Path) -> Path:
    """A copy of the rendered dataset that a test may spoil."""
    return Path(shutil.copytree(demo_root, tmp_path / 'data'))


def options(root: Path, *more: str) -> list[str]:
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        'train_dataloader.batch_size=8',
        'val_dataloader.num_workers=0',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        *more,
    ]


def spoil(root: Path, split: str, change: Any) -> None:
    """Rewrite an annotation file."""
    path = root / 'annotations' / f'person_keypoints_{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(done: Any, *parts: str) -> None:
    """The process ended with one message that has all parts, and no traceback."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert 'Traceback' not in done.stderr + done.stdout
    message = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(message) == 1, done.stderr
    for part in parts:
        assert part in message[0], message[0]


@pytest.mark.parametrize(
    ('option', 'parts'),
    [
        (
            'model.backbone.type=HRNett',
            ("model.backbone: unknown model type 'HRNett'", "did you mean 'HRNet'"),
        ),
        (
            'model.backbone.attention.layuot=parallel',
            ("model.backbone.attention: PSA takes no keyword 'layuot'", "did you mean 'layout'"),
        ),
        (
            'train_dataloader.dataset.pipeline.1.rotate_facter=3',
            ('train_dataloader.dataset.pipeline.1', "'rotate_facter'", "'rotate_factor'"),
        ),
        (
            'codec.sigmaa=3',
            ("codec: MSRAHeatmap takes no keyword 'sigmaa'", "did you mean 'sigma'"),
        ),
        (
            'optim_wrapper.optimizer.weight_decai=3',
            ('optim_wrapper.optimizer', "'weight_decai'", "did you mean 'weight_decay'"),
        ),
        ('param_scheduler.0.type=LinearLr', ('param_scheduler.0', "did you mean 'LinearLR'")),
        ('val_evaluator.type=CocoMetrik', ('val_evaluator', "did you mean 'CocoMetric'")),
        ('train_dataloader.batchsize=4', ("no option 'batchsize'", "did you mean 'batch_size'")),
        ('trainer.precison=bf16', ('trainer', 'precison', "did you mean 'precision'")),
        ('trian_cfg.max_epochs=4', ("nothing reads the key 'trian_cfg'", "'train_cfg'")),
        ('train_dataloader.batch_size=4000', ('larger than the dataset',)),
        ('codec.heatmap_size=(48,64)', ('codec.heatmap_size', '(8, 17, 64, 48)')),
    ],
    ids=lambda value: value.split('=')[0] if isinstance(value, str) else '',
)
def test_config(
    demo_root: Path, tmp_path: Path, run_tool: RunTool, option: str, parts: tuple
) -> None:
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path, '--dry-run', *options(demo_root, option)
    )
    refused(done, *parts)


def test_missing_image_root(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    shutil.rmtree(root / 'images' / 'train')
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    refused(done, 'image root', str(root / 'images' / 'train'), 'is not a folder')


def test_missing_annotation_file(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    (root / 'annotations' / 'person_keypoints_val.json').unlink()
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    refused(done, 'person_keypoints_val.json', 'No such file')


def test_keypoints_not_3k_long(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    spoil(root, 'train', lambda c: c['annotations'][4]['keypoints'].pop())
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    refused(done, 'annotation id 5', '50 keypoint numbers', '3 x 17 = 51')


def test_no_usable_person(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    def crowd(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            annotation['iscrowd'] = 1

    spoil(root, 'train', crowd)
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    refused(done, 'person_keypoints_train.json', 'no usable person')


@pytest.mark.parametrize('workers', [0, 1])
def test_truncated_jpeg_stops_the_run(
    root: Path, tmp_path: Path, run_tool: RunTool, workers: int
) -> None:
    for path in (root / 'images' / 'train').iterdir():
        path.write_bytes(path.read_bytes()[:-2000])
    more = f'train_dataloader.num_workers={workers}'
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root, more))
    refused(done, str(root / 'images' / 'train'), 'is truncated')


def test_unreadable_images_are_skipped_and_counted_where_asked(
    root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    for split in ('train', 'val'):
        (root / 'images' / split / '000001.jpg').write_bytes(b'\xff\xd8 not a picture')
    skip = [f'{split}_dataloader.dataset.on_error=skip' for split in ('train', 'val')]
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root, *skip))
    assert done.returncode == 0, done.stderr
    assert 'skipped: image' in done.stderr and '000001.jpg' in done.stderr
    truth = json.loads((root / 'annotations' / 'person_keypoints_val.json').read_text())
    persons = sum(a['image_id'] == 1 for a in truth['annotations'])
    assert f'{persons} skipped as unreadable' in ' '.join(done.stdout.split())
    assert 'samples were skipped: their images could not be read' in done.stdout


def test_checkpoint_of_another_k(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    from psa_pose import build_model
    from psa_pose.engine.config import load_config
    from psa_pose.structures import KeypointInfo

    two = KeypointInfo(('left_hand', 'right_hand'), (), (0.1, 0.1))
    state = build_model(load_config(CONFIG), two).state_dict()
    torch.save({'state_dict': state, 'meta': {'keypoint_names': two.names}}, tmp_path / 'two.ckpt')
    done = run_tool('test', CONFIG, tmp_path / 'two.ckpt', *options(root))
    refused(done, 'predicts 2 keypoints (left_hand, right_hand)', 'the dataset has 17')


def test_results_that_are_empty(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    from psa_pose import build_model
    from psa_pose.engine.config import load_config
    from psa_pose.structures import COCO_KEYPOINTS

    for path in (root / 'images' / 'val').iterdir():
        path.write_bytes(b'nothing')
    torch.save(build_model(load_config(CONFIG), COCO_KEYPOINTS).state_dict(), tmp_path / 'm.pth')
    skip = 'val_dataloader.dataset.on_error=skip'
    done = run_tool('test', CONFIG, tmp_path / 'm.pth', *options(root, skip))
    refused(done, 'no prediction to evaluate', 'persons were skipped, 0 predicted')


def test_targets_that_are_all_zero(root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    def move_boxes(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            annotation['bbox'] = [0, 0, 2, 2]
            annotation['keypoints'] = [300, 200, 2] * 17

    spoil(root, 'train', move_boxes)
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    refused(done, 'the first batch has no target', 'do boxes and keypoints')


def test_ids_that_do_not_match_the_ground_truth(
    root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    other = root / 'annotations' / 'other.json'
    shutil.copy(root / 'annotations' / 'person_keypoints_val.json', other)

    def renumber(content: dict[str, Any]) -> None:
        for image in content['images']:
            image['id'] += 1000
        for annotation in content['annotations']:
            annotation['image_id'] += 1000

    spoil(root, 'val', renumber)
    more = f'val_evaluator.ann_file={other}'
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'w', *options(root, more))
    refused(done, 'image id 1001', 'is not in the ground truth', 'other.json')


def test_resume_without_a_run_and_configs_and_checkpoints_that_are_not_there(
    demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    done = run_tool('train', CONFIG, '--work-dir', tmp_path, '--resume', *options(demo_root))
    refused(done, '--resume: there is no checkpoint')
    done = run_tool('train', 'configs/demo/hrnet_tiny_psa_128x96.py')
    refused(done, 'no config file', "did you mean 'demo/hrnet_tiny_psa_p_128x96.py'")
    done = run_tool('test', CONFIG, tmp_path / 'none.ckpt', *options(demo_root))
    refused(done, 'cannot read checkpoint', 'none.ckpt', 'No such file')
