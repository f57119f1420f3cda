"""`tools/publish_model.py` as a user runs it: small, named by its content, and the same model."""

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
import torch

from psa_pose.cli import main
from tests import processes
from tests.conftest import RunTool

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def options(root: Path) -> list[str]:
    return processes.options(root, 'train_cfg.max_epochs=3', 'train_cfg.val_interval=3')


def ran(*arguments: object) -> str:
    """What a tool prints; in this process, which is the same code without its seconds to start."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(a) for a in arguments]) == 0
    return out.getvalue()


def published(*arguments: object) -> Path:
    return Path(ran('publish-model', *arguments).split()[1].rstrip(':'))


@pytest.fixture(scope='module')
def run(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run's last checkpoint, and the numbers that tools/test.py gives of it."""
    work_dir = tmp_path_factory.mktemp('run')
    checkpoint, metrics = work_dir / 'checkpoints' / 'last.ckpt', work_dir / 'm.json'
    ran('train', CONFIG, '--work-dir', work_dir, *options(demo_root))
    ran('test', CONFIG, checkpoint, '--metrics', metrics, *options(demo_root))
    return checkpoint, json.loads(metrics.read_text())


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors', 'mmpose.pth'])
def test_a_published_model_is_the_same_model(
    run: tuple[Path, dict], demo_root: Path, tmp_path: Path, name: str
) -> None:
    checkpoint, numbers = run
    extra = ['--format', 'mmpose'] if name == 'mmpose.pth' else []
    path = published(checkpoint, tmp_path / 'out' / name, *extra)
    stem, suffix = name.split('.')
    assert re.fullmatch(rf'{stem}-[0-9a-f]{{8}}\.{suffix}', path.name)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem[-8:])
    assert path.stat().st_size < checkpoint.stat().st_size / 2.5  # Adam's two moments are gone
    assert sorted(p.suffix for p in path.parent.iterdir()) == sorted(['.md', f'.{suffix}'])

    metrics = tmp_path / 'm.json'
    log = ran('test', CONFIG, path, '--metrics', metrics, *options(demo_root))
    assert 'PSA-Pose, published: ' in log
    assert json.loads(metrics.read_text()) == numbers

    card = path.with_suffix('.md').read_text()
    for part in (
        '| from | last.ckpt (PSA-Pose) |',
        'epochs 3, steps 18',
        '| training data | CocoStyleDataset, person_keypoints_train.json |',
        '| person boxes | ground truth |',
        f'AP {numbers["AP"]:.4f}, AP50 {numbers["AP50"]:.4f}',
        'psa_pose 0.',
        f'torch {torch.__version__.split("+")[0]}',
        "layout='parallel'",  # out of the config
    ):
        assert part in card, part


def test_the_file_holds_weights_and_card_alone(run: tuple[Path, dict], tmp_path: Path) -> None:
    from safetensors import safe_open

    checkpoint, numbers = run
    path = published(checkpoint, tmp_path / 'a.pth')
    content = torch.load(path, weights_only=True)
    assert set(content) == {'meta', 'state_dict'}
    card = content['meta']['psa_pose']
    assert card['metrics']['AP'] == pytest.approx(numbers['AP'])
    assert card['keypoint_names'][0] == 'nose'
    assert 'work_dir' not in card['config']
    original = torch.load(checkpoint, weights_only=True)['state_dict']
    assert content['state_dict'].keys() == original.keys()
    assert all(torch.equal(v, original[n]) for n, v in content['state_dict'].items())

    again = published(checkpoint, tmp_path / 'again' / 'a.pth')
    assert again.name == path.name, 'the same model got another checksum'
    safe = published(checkpoint, tmp_path / 'a.safetensors')
    with safe_open(safe, 'pt') as file:
        assert json.loads(file.metadata()['psa_pose']) == card
        assert all(torch.equal(file.get_tensor(name), v) for name, v in original.items())


def test_averaged_weights_are_what_is_published(run: tuple[Path, dict], tmp_path: Path) -> None:
    content = torch.load(run[0], weights_only=True)
    now = {name: value + 1 for name, value in content['state_dict'].items()}
    torch.save({**content, 'current_model_state': now}, tmp_path / 'ema.ckpt')
    path = published(tmp_path / 'ema.ckpt', tmp_path / 'ema.pth')
    state = torch.load(path, weights_only=True)['state_dict']
    assert all(torch.equal(value, content['state_dict'][name]) for name, value in state.items())
    assert '(PSA-Pose, averaged weights)' in path.with_suffix('.md').read_text()


def test_metrics_and_config_may_be_given(
    run: tuple[Path, dict], tmp_path: Path, run_tool: RunTool
) -> None:
    state = torch.load(run[0], weights_only=True)['state_dict']
    torch.save(state, tmp_path / 'weights.pth')
    (tmp_path / 'm.json').write_text(json.dumps({'AP': 0.7651, 'boxes': 'detections of d.json'}))
    done = run_tool(
        'publish_model', tmp_path / 'weights.pth', tmp_path / 'a.pth',
        '--config', CONFIG, '--metrics', tmp_path / 'm.json',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = next(tmp_path.glob('a-*.md')).read_text()
    assert '| metrics | AP 0.7651 |' in card and '| person boxes | detections of d.json |' in card
    assert 'the card says nothing of keypoint_names' in done.stdout


@pytest.mark.parametrize(
    ('content', 'out', 'message'),
    [
        ({'head.final_layer.weight': torch.zeros(17, 4, 1, 1)}, 'a.pth', 'no backbone and head'),
        ({'a': torch.zeros(1)}, 'a.ckpt', "unknown format 'ckpt'"),
        ({'a': torch.zeros(1)}, 'a', "unknown format ''"),
        ({'epoch': 3}, 'a.pth', 'holds no weights'),
    ],
)
def test_what_cannot_be_published_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: dict, out: str, message: str
) -> None:
    torch.save(content, tmp_path / 'in.ckpt')
    assert main(['publish-model', str(tmp_path / 'in.ckpt'), str(tmp_path / 'out' / out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error
    assert not list((tmp_path / 'out').glob('*'))
