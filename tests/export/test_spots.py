"""`psa-pose export` of a network whose right answers are known: codecs, options, the client."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from psa_pose import Inferencer
from psa_pose.cli import main
from psa_pose.engine.build import build_dataset, build_model
from psa_pose.engine.config import load_config
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.structures import PoseBatch
from tests.conftest import ROOT, RunTool
from tests.export import blobs

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
CLIENT = ROOT / 'examples/onnx_client/client.py'
SIZES = 'input_size=(96, 128), heatmap_size=(24, 32)'
CODECS = {
    'msra': [f"codec=dict(type='MSRAHeatmap', {SIZES})"],
    'dark': [f"codec=dict(type='MSRAHeatmap', unbiased=True, {SIZES})"],
    'udp': [f"codec=dict(type='UDPHeatmap', {SIZES})", 'model.backbone.align_corners=True'],
}


@pytest.fixture(scope='module')
def spots(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp('spots')
    config, checkpoint = blobs.make(root)
    spots = SimpleNamespace(root=root, config=config, checkpoint=checkpoint, file=root / 'a.onnx')
    assert export(spots, spots.file) == 0
    return spots


def export(spots: SimpleNamespace, out: Path, *flags: str, options: Sequence[str] = ()) -> int:
    command = ['export', spots.config, spots.checkpoint, '--out', out, '--rounds', 0, *flags]
    return main([*map(str, command), *(['--cfg-options', *options] if options else [])])


@pytest.mark.parametrize(
    ('codec', 'flip_test', 'normalise'),
    [('msra', False, True), ('dark', False, False), ('udp', True, True)],
)
def test_a_client_finds_what_this_project_finds(
    spots: SimpleNamespace, tmp_path: Path, codec: str, flip_test: bool, normalise: bool
) -> None:
    file = spots.file if codec == 'msra' else tmp_path / 'a.onnx'
    if codec != 'msra':  # which was exported already
        flags = ['--flip-test'] * flip_test + ['--no-normalise'] * (not normalise)
        assert export(spots, file, *flags, options=CODECS[codec]) == 0
    client = runpy.run_path(str(CLIENT))['PoseModel'](file)

    cfg = load_config(spots.config, [*CODECS[codec], f'model.test_cfg=dict(flip_test={flip_test})'])
    dataset = build_dataset(cfg, 'val_dataloader')
    model = build_model(cfg, dataset.info).eval()
    load_checkpoint(model, spots.checkpoint)
    for i in range(len(dataset)):
        with torch.no_grad():
            batch = PoseBatch(*(torch.as_tensor(np.asarray(part))[None] for part in dataset[i]))
            expected = model.predict(batch)
        image = cv2.imread(str(spots.root / f'images/{i}.png'))[..., ::-1]
        keypoints, scores = client.predict(image, [[12, 15, 85, 108]])
        # Crops differ by at most 1 of 255: another interpolation.
        np.testing.assert_allclose(scores, expected.scores, atol=1.5 / 255)
        np.testing.assert_allclose(keypoints, expected.keypoints, atol=0.05)
        truth = dataset.persons.keypoints[i][:, :2]
        assert np.abs(keypoints[0] - truth).max() < (1.5 if codec == 'msra' else 0.1)


def test_the_client_needs_onnxruntime_and_numpy_alone(
    spots: SimpleNamespace, tmp_path: Path
) -> None:
    np.save(tmp_path / 'i.npy', cv2.imread(str(spots.root / 'images/0.png'))[..., ::-1])
    block = "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'cv2', 'psa_pose', " + (
        "'onnx', 'PIL', 'scipy', 'mmengine'])); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    box = ['--box', '12', '15', '85', '108']
    command = [sys.executable, '-c', block, CLIENT, spots.file, tmp_path / 'i.npy']
    done = subprocess.run([*command, *box, *box], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found['names'] == ['nose', 'neck', 'pelvis']
    first, second = (np.reshape(p['keypoints'], (3, 3)) for p in found['persons'])
    truth = json.loads((spots.root / 'spots.json').read_text())['annotations'][0]['keypoints']
    assert np.abs(first - np.reshape(truth, (3, 3)))[:, :2].max() < 1.5
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ('metadata', 'message'),
    [
        ({'psa_pose': '{"decoded": false}'}, 'export it with --decode'),
        ({}, 'not a file of psa-pose'),
    ],
)
def test_the_client_says_which_files_it_takes(
    spots: SimpleNamespace, tmp_path: Path, metadata: dict[str, str], message: str
) -> None:
    model = onnx.load(spots.file)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / 'b.onnx')
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(CLIENT))['PoseModel'](tmp_path / 'b.onnx')


def test_a_program_runs_without_this_package(
    spots: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(spots, tmp_path / 'a.pt2', options=CODECS['udp']) == 0
    cfg = load_config(spots.config, CODECS['udp'])
    model = build_model(cfg).eval()
    load_checkpoint(model, spots.checkpoint)
    crops = torch.arange(5 * 128 * 96 * 3).remainder(251).byte().view(5, 128, 96, 3)
    expected = model.codec.decode(model(model.data_preprocessor(crops)))

    for name in [name for name in sys.modules if name.split('.')[0] in ('psa_pose', 'tests')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'psa_pose', None)
    files = {'psa_pose.json': ''}
    program = torch.export.load(tmp_path / 'a.pt2', extra_files=files)
    for got, wanted in zip(program.module()(crops), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    assert json.loads(files['psa_pose.json'])['codec']['type'] == 'UDPHeatmap'


def test_offsets_are_decoded_in_the_graph(
    spots: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weight = torch.stack([torch.eye(3), -0.1 * torch.eye(3), 0.2 * torch.eye(3)], 1)
    state = {'head.final_layer.weight': weight.view(9, 3, 1, 1)}
    torch.save({**state, 'head.final_layer.bias': torch.zeros(9)}, tmp_path / 'c.pth')
    combined = f"codec=dict(type='UDPHeatmap', heatmap_type='combined', {SIZES})"
    mine = SimpleNamespace(config=spots.config, checkpoint=tmp_path / 'c.pth')
    assert export(mine, tmp_path / 'a.onnx', options=[combined]) == 0
    assert 'scores' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['model.backbone.attention=dict(type="Hasty")'],
            r'First layer that differs: backbone\.attention, by 1\.0e-02 of its greatest value '
            r'\(aten\.mul',
        ),
        (
            ['model.backbone.attention=dict(type="Curious")'],
            r'the model cannot be recorded as a graph \(\S+blobs\.py:\d+ ',
        ),
        (
            [f'codec=dict(type="NumpyHeatmap", {SIZES})'],
            r'codec NumpyHeatmap: its decode cannot be put into a graph .*--no-decode',
        ),
    ],
)
def test_what_is_not_the_same_model_is_not_written(
    spots: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    options: list[str],
    message: str,
) -> None:
    (tmp_path / 'a.pt2').write_text('of before')
    assert export(spots, tmp_path / 'a.pt2', options=options) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert re.search(message, error), error
    assert [p.name for p in tmp_path.iterdir()] == ['a.pt2']
    assert (tmp_path / 'a.pt2').read_text() == 'of before'


def test_heatmaps_of_a_codec_that_stays_outside(spots: SimpleNamespace, tmp_path: Path) -> None:
    codec = f'codec=dict(type="NumpyHeatmap", {SIZES})'
    assert export(spots, tmp_path / 'a.pt2', '--no-decode', options=[codec]) == 0


def test_bad_names_are_refused_before_any_work(
    spots: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert export(spots, tmp_path / 'a.pb') == 1
    assert 'end the name in .onnx or .pt2, or give --format' in capsys.readouterr().err
    assert export(spots, tmp_path / 'a.onnx', '--format', 'torch') == 1
    assert "format 'torch' ends in .pt2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(
    spots: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, 'psa_pose.export.to_onnx')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    assert export(spots, tmp_path / 'a.onnx') == 1
    assert "pip install 'psa-pose[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_tool_is_the_command(run_tool: RunTool) -> None:
    done = run_tool('export', '--help')
    assert done.returncode == 0 and '--format {onnx,torch}' in done.stdout


def test_without_a_box_the_client_takes_the_box_that_the_inferencer_takes(
    spots: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = spots.root / 'images/0.png'
    monkeypatch.setattr(sys, 'argv', ['client.py', str(spots.file), str(image)])
    capsys.readouterr()
    runpy.run_path(str(CLIENT), run_name='__main__')
    (person,) = json.loads(capsys.readouterr().out)['persons']
    cfg = load_config(spots.config, [*CODECS['msra'], 'model.test_cfg=dict(flip_test=False)'])
    (expected,) = Inferencer(cfg, spots.checkpoint, device='cpu')(image)
    x1, y1, x2, y2 = expected.boxes[0]
    assert person['bbox'] == [x1, y1, x2 - x1, y2 - y1]
    found = np.reshape(person['keypoints'], (3, 3))[:, :2]
    np.testing.assert_allclose(found, expected.keypoints[0], atol=0.05)
