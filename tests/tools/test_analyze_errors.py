"""tools/analyze_errors.py and evaluations of several metrics, as a user runs them."""

import json
import re
from pathlib import Path

import pytest
import torch

from psa_pose.engine.build import build_model
from psa_pose.structures import COCO_KEYPOINTS
from tests.conftest import ROOT, RunTool
from tests.corrupted import Predictions, crowd_file

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def write_results(folder: Path) -> tuple[Path, Path]:
    """Results with errors of all kinds, and their ground truth."""
    truth = crowd_file(folder)
    predictions = Predictions(truth)
    predictions.missed_person(3)
    predictions.background(4)
    for kind in ('inversion', 'swap', 'miss', 'jitter'):
        getattr(predictions, kind)(0.1)
    results = folder / 'results.json'
    results.write_text(json.dumps(predictions.rows()))
    return results, truth


def test_tables_json_and_plots(tmp_path: Path, run_tool: RunTool) -> None:
    results, truth = write_results(tmp_path)
    done = run_tool('analyze_errors', results, '--ann', truth, '--out', tmp_path / 'new' / 'out')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert '…' not in done.stdout
    for text in (
        f'OKS-AP of {results} (which does not say from which boxes it was made)',
        f'48 persons of {truth}, 3 of them missed; guessed sigmas',
        '49 detections: 45 matched, 0 ignored, 0 duplicates, 4 background',
        'AP if errors of a kind were cured',
        'PCK@0.2',
        'crowding',
    ):
        assert text in done.stdout, text
    content = json.loads((tmp_path / 'new' / 'out' / 'diagnosis.json').read_text())
    assert content['results'] == str(results)
    assert content['annotations'] == str(truth)
    assert content['persons'] == {'evaluated': 48, 'missed': 3}
    assert content['options']['match_oks'] == 0.1
    for kind in ('inversion', 'swap', 'miss', 'jitter', 'background', 'missed person'):
        row = re.search(rf'^│ {kind} .*', done.stdout, re.M)
        assert row is not None
        assert f'{content["cured"][kind]["alone"]:.4f}' in row.group()
    assert content['cured']['missed person']['after'] == 1
    for name in ('keypoints', 'cured', 'groups'):
        assert (tmp_path / 'new' / 'out' / f'{name}.png').stat().st_size > 10_000
        assert f'{name}.png' in done.stdout


def test_without_out_nothing_is_written(tmp_path: Path, run_tool: RunTool) -> None:
    results, truth = write_results(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = run_tool('analyze_errors', results, '--ann', truth, '--cure', 'paper', '--any-part')
    assert done.returncode == 0, done.stderr
    assert 'written' not in done.stdout
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('content', 'parts'),
    [
        ('[]', ('results.json', 'empty list')),
        ('[', ('results.json is not JSON',)),
        ([{'keypoints': [1.0] * 51}], ('detection 0 has 51 keypoint numbers', 'which makes 15')),
        ([{'keypoints': [float('nan')] * 15}], ('detection 0', 'must be finite')),
        ([{'image_id': 99}], ('image id 99', 'crowd.json')),
        ([{}, {}], ('detections 0 and 1 are the same',)),
    ],
)
def test_bad_results(tmp_path: Path, run_tool: RunTool, content: object, parts: tuple) -> None:
    truth = crowd_file(tmp_path)
    row = {'image_id': 1, 'category_id': 7, 'keypoints': [1.0] * 15, 'score': 0.5}
    if isinstance(content, list):
        content = json.dumps([{**row, **changes} for changes in content])
    results = tmp_path / 'results.json'
    results.write_text(str(content))
    refused(run_tool('analyze_errors', results, '--ann', truth), *parts)


def test_bad_truth_and_options(tmp_path: Path, run_tool: RunTool) -> None:
    results, truth = write_results(tmp_path)
    nowhere = run_tool('analyze_errors', results, '--ann', tmp_path / 'nowhere.json')
    refused(nowhere, 'nowhere.json')
    nonsense = run_tool('analyze_errors', results, '--ann', truth, '--near', '0.9')
    refused(nonsense, '0 < near < good')


def refused(done, *parts: str) -> None:
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert 'Traceback' not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('error: ')
    for part in parts:
        assert part in lines[0], lines[0]


def test_several_metrics_then_the_diagnosis_of_what_they_wrote(
    demo_root: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    checkpoint = tmp_path / 'fresh.ckpt'
    torch.manual_seed(0)
    model = build_model(str(ROOT / CONFIG), COCO_KEYPOINTS)
    torch.save({'state_dict': model.state_dict()}, checkpoint)
    evaluators = "[dict(type='CocoMetric'),dict(type='PCKAccuracy'),dict(type='EPE')]"
    options = [
        '--cfg-options', f'train_dataloader.dataset.data_root={demo_root}',
        f'val_dataloader.dataset.data_root={demo_root}', 'val_dataloader.num_workers=0',
    ]  # fmt: skip
    done = run_tool(
        'test', CONFIG, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'r.json',
        '--metrics', tmp_path / 'm.json', *options, f'val_evaluator={evaluators}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert list(metrics)[-3:] == ['PCK', 'EPE', 'boxes']
    assert 'AP' in metrics
    for text in ('OKS-AP, ground truth boxes', "PCK@0.2 of the box' larger side; ground truth"):
        assert text in done.stdout
    assert f'{metrics["PCK"]:.4f}' in done.stdout
    assert f'{metrics["EPE"]:.4f}' in done.stdout

    truth = demo_root / 'annotations' / 'person_keypoints_val.json'
    done = run_tool('analyze_errors', tmp_path / 'r.json', '--ann', truth, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / 'diagnosis.json').read_text())
    assert content['ap']['AP'] == pytest.approx(metrics['AP'], abs=1e-9)

    clash = "[dict(type='PCKAccuracy'),dict(type='PCKAccuracy',thr=0.1)]"
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path / 'w', '--dry-run', *options,
        f'val_evaluator={clash}',
    )  # fmt: skip
    refused(done, "val_evaluator: two metrics give the number 'PCK'", '@0.2', '@0.1')
    done = run_tool(
        'train', CONFIG, '--work-dir', tmp_path / 'w', '--dry-run', *options,
        "val_evaluator=[dict(type='PCKAccuracy'),dict(type='EPE')]",
    )  # fmt: skip
    refused(done, "save_best: no evaluator gives 'AP'", 'EPE, PCK')
