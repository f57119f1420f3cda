"""`psa-pose check` as a user calls it: findings in order, exit status, JSON; and in time."""

import json
import time
from pathlib import Path

import pytest

from psa_pose.cli import main
from psa_pose.engine.check import doctor
from psa_pose.engine.check.look import look
from psa_pose.engine.check.machine import Machine
from tests.engine.check.dataset import content, write


def test_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content(0, 40))
    start = time.monotonic()
    assert main(['check', 'config.py', '--json', 'out/found.json']) == 0
    assert time.monotonic() - start < 20  # a second or two, on a machine of its own
    printed = capsys.readouterr().out
    assert printed.startswith('config   config.py\nmachine  Python 3.')
    assert '0 errors, 0 warnings' in printed and printed.endswith('a run can start\n')
    found = json.loads(Path('out/found.json').read_text())
    assert found['config'] == 'config.py' and found['machine']['cores'] >= 1
    assert {f['level'] for f in found['findings']} == {'note'}
    assert set(found['findings'][0]) == {'level', 'where', 'what', 'remedy'}
    assert not Path('work_dirs').exists()  # nothing but the JSON is written
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'config.py', 'images', 'out', 'train.json', 'val.json',
    ]  # fmt: skip


def test_everything_wrong_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = content(0, 40)
    dataset['images'][0]['file_name'] = 'gone.jpg'
    write(tmp_path, dataset)
    Path('run/checkpoints').mkdir(parents=True)
    Path('run/checkpoints/epoch=1_step=10.ckpt').touch()
    options = [
        'model.backbone.archh=1', 'trian_cfg.max_epochs=3', 'load_from=nowhere.ckpt',
        'train_dataloader.dataset.bbox_paddin=1', 'default_hooks.checkpoint.save_best=AB',
    ]  # fmt: skip
    assert main(['check', 'config.py', '--work-dir', 'run', '--cfg-options', *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    for text in (
        "error    config config.py: nothing reads the key 'trian_cfg'",
        "error    model.backbone: HRNet takes no keyword 'archh'; did you mean 'arch'?",
        'error    load_from: nowhere.ckpt is no file',
        "error    train_dataloader.dataset: CocoStyleDataset takes no keyword 'bbox_paddin'",
        "error    default_hooks.checkpoint.save_best: no evaluator gives 'AB'; choose",
        'error    train.json: 1 of 40 images are not in images (gone.jpg)',
        'warning  work_dir: run already holds a run (1 checkpoints); go on with --resume',
    ):
        assert any(line.startswith(text) for line in lines), (text, lines)
    assert lines[-1].startswith('found    6 errors, 1 warning') and 'would stop' in lines[-1]


def test_warnings_fail_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content(0, 40), content(39, 10))  # an image of both
    assert main(['check', 'config.py']) == 0
    assert main(['check', 'config.py', '--strict']) == 1


@pytest.mark.parametrize(
    'text', ['model = dict(', "_base_ = 'psa_pose::coco/none.py'", 'a = 1 / 0']
)
def test_a_config_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / 'broken.py').write_text(text)
    assert main(['check', str(tmp_path / 'broken.py')]) == 1
    assert f'error    config {tmp_path / "broken.py"}: ' in capsys.readouterr().out


@pytest.mark.parametrize(
    'option',
    [
        'model=3', 'codec=None', 'train_dataloader=4', 'train_dataloader.dataset=[1]', 'env_cfg=x',
        'val_dataloader=None', 'optim_wrapper=[1, 2]', 'param_scheduler=7', 'default_hooks=7',
        'val_evaluator=[]', 'train_cfg=[1]', 'model.backbone=None', 'custom_hooks=dict(a=1)',
        'codec.input_size=(1,)', 'codec.input_size=wide', 'model.head=1', 'trainer=[]',
        'train_dataloader.dataset.ann_file=7', 'train_dataloader.dataset.pipeline=7',
        'train_dataloader.dataset.data_prefix=images', 'model.test_cfg=7', 'randomness=7',
    ],
)  # fmt: skip
def test_no_value_makes_it_fall_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, 'look', lambda folder: MACHINE)
    write(tmp_path, content(0, 8))
    assert main(['check', 'config.py', '--cfg-options', option]) == 1
    assert option.partition('=')[0].split('.')[0] in capsys.readouterr().out


MACHINE = look(Path())


def test_a_machine_without_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Machine(broken={'cv2': 'ImportError: libGL.so.1: cannot open shared object file'})
    monkeypatch.setattr(doctor, 'look', lambda folder: broken)
    assert main(['check', 'demo/hrnet_tiny_psa_p_128x96.py']) == 1
    assert 'error    cv2: cannot be imported: ImportError: libGL' in capsys.readouterr().out
