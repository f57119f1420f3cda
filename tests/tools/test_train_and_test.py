"""The tools as a user runs them: real processes on real files."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, RunTool

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def options(root: Path, epochs: int = 2) -> list[str]:
    """Overrides for the small rendered dataset."""
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        'train_dataloader.batch_size=8',
        'train_dataloader.num_workers=1',
        'val_dataloader.num_workers=0',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=2',
        'default_hooks.logger.interval=1',
    ]


def losses(log: str) -> dict[int, str]:
    return dict((int(s), v) for s, v in re.findall(r'step (\d+)/\d+  loss (\S+)', log))


@pytest.fixture(scope='module')
def trained(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A work dir after four epochs, and what the tool printed."""
    work_dir = tmp_path_factory.mktemp('run')
    command = [sys.executable, 'tools/train.py', CONFIG, '--work-dir', str(work_dir)]
    done = subprocess.run(
        command + options(demo_root, 4), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return work_dir, done.stdout


def test_training_says_what_it_does_and_leaves_a_run_behind(trained: tuple[Path, str]) -> None:
    work_dir, log = trained
    assert 'learning rate 0.002 x batch 8 / reference 32 = 0.0005' in log
    assert re.search(r'loss 0\.\d+  lr \S+  \d+ samples/s  data wait \d+%  ETA \d+:', log)
    assert 'OKS-AP, ground truth boxes' in log
    assert (work_dir / 'checkpoints' / 'last.ckpt').is_file()
    assert len(list(work_dir.glob('checkpoints/best_epoch=*_AP=*.ckpt'))) == 1
    assert (work_dir / 'config.py').is_file()
    values = [float(v) for v in losses(log).values()]
    assert min(values[-3:]) < max(values[:3])


def test_tensorboard_holds_the_curves(trained: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work_dir, log = trained
    events = EventAccumulator(str(work_dir / 'tensorboard'))
    events.Reload()
    assert {'loss', 'lr', 'samples_per_s', 'data_wait', 'AP', 'AR75'} <= set(
        events.Tags()['scalars']
    )
    logged = {e.step: e.value for e in events.Scalars('loss')}
    printed = losses(log)
    assert len(logged) == len(printed)
    assert sorted(f'{v:.6f}' for v in logged.values()) == sorted(printed.values())


def test_a_checkpoint_is_plain_and_named_as_mmposes(trained: tuple[Path, str]) -> None:
    checkpoint = torch.load(trained[0] / 'checkpoints' / 'last.ckpt', weights_only=True)
    assert {key.split('.')[0] for key in checkpoint['state_dict']} == {'backbone', 'head'}
    assert checkpoint['meta']['keypoint_names'][0] == 'nose'


def test_resume_after_a_kill_continues_the_very_curve(
    trained: tuple[Path, str], demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    """Killed in its third epoch, then --resume: the same losses to all printed digits."""
    whole = losses(trained[1])
    arguments = [CONFIG, '--work-dir', str(tmp_path), *options(demo_root, 4)]
    command = [sys.executable, 'tools/train.py', *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        killed = ''
        for line in process.stdout:
            killed += line
            if line.startswith('epoch 3/4'):
                process.kill()
                break
    resumed = run_tool('train', *arguments, '--resume')
    assert resumed.returncode == 0, resumed.stderr
    before, after = losses(killed), losses(resumed.stdout)
    assert 0 < min(after) <= max(before) + 1, 'a step is missing between the two runs'
    assert min(after) > 1, 'the second run started anew'
    assert {**before, **after} == whole


@pytest.mark.parametrize(
    ('number', 'status', 'word'),
    [(signal.SIGTERM, 143, 'stopped by SIGTERM'), (signal.SIGINT, 130, 'interrupted')],
)
def test_a_signal_is_no_success(
    demo_root: Path, tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    """Or make and a cluster's queue would take half a run for a whole one."""
    arguments = [CONFIG, '--work-dir', str(tmp_path), *options(demo_root, 50)]
    command = [sys.executable, 'tools/train.py', *arguments]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith('epoch 2/50'):
                process.send_signal(number)
                break
        process.stdout.read()
        message = process.stderr.read()
    assert process.returncode == status
    assert f'{word}; go on with --resume' in message
    assert 'Traceback' not in message
    assert (tmp_path / 'checkpoints' / 'last.ckpt').is_file()


def test_evaluation_writes_numbers_results_and_pictures(
    trained: tuple[Path, str], demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    work_dir, log = trained
    done = run_tool(
        'test', CONFIG, work_dir / 'checkpoints' / 'last.ckpt',
        '--metrics', tmp_path / 'm.json', '--out', tmp_path / 'r.json',
        '--show-dir', tmp_path / 'pictures', *options(demo_root),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics['boxes'] == 'ground truth'
    assert set(metrics) == {
        'AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL', 'boxes',
    }  # fmt: skip
    # The same weights give the same numbers in training and here.
    assert f'{metrics["AP"]:.4f}' in log
    rows = json.loads((tmp_path / 'r.json').read_text())
    truth = json.loads((demo_root / 'annotations' / 'person_keypoints_val.json').read_text())
    assert {row['image_id'] for row in rows} <= {image['id'] for image in truth['images']}
    assert all(len(row['keypoints']) == 51 for row in rows)
    pictures = {p.stem for p in (tmp_path / 'pictures').glob('*.jpg')}
    expected = {f'{i["id"]}_{Path(i["file_name"]).stem}' for i in truth['images']}
    assert pictures == expected


def test_load_from_starts_with_those_weights(
    trained: tuple[Path, str], demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    checkpoint = trained[0] / 'checkpoints' / 'last.ckpt'
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path, '--load-from', checkpoint, '--dry-run',
        *options(demo_root),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'weights   {checkpoint}' in done.stdout
    first = losses(trained[1])[1]
    assert float(losses(done.stdout)[1]) < float(first)


def test_dry_run_touches_real_files_and_writes_nothing(
    demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    work_dir = tmp_path / 'never'
    done = run_tool('train', CONFIG, '--work-dir', work_dir, '--dry-run', *options(demo_root))
    assert done.returncode == 0, done.stderr
    assert 'one training batch (loss 0.' in done.stdout
    assert 'evaluation batch' in done.stdout
    assert 'AP' not in done.stdout.replace('OKS-AP', '')
    assert not work_dir.exists()


def test_amp_trains(demo_root: Path, tmp_path: Path, run_tool: RunTool) -> None:
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path, '--amp', '--dry-run', *options(demo_root)
    )
    assert done.returncode == 0, done.stderr


def test_a_work_dir_is_not_overwritten(
    trained: tuple[Path, str], demo_root: Path, run_tool: RunTool
) -> None:
    before = (trained[0] / 'checkpoints' / 'last.ckpt').read_bytes()
    done = run_tool('train', CONFIG, '--work-dir', trained[0], *options(demo_root))
    assert done.returncode == 1
    assert 'already holds a run: go on with --resume' in done.stderr
    assert (trained[0] / 'checkpoints' / 'last.ckpt').read_bytes() == before


def test_wheel_and_checkout_run_the_same_code() -> None:
    for name in ('train', 'test'):
        text = (ROOT / 'tools' / f'{name}.py').read_text()
        assert f"main(['{name}', *sys.argv[1:]])" in text
