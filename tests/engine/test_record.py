"""What a run leaves for reports: there, right, and never in the way of the run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from psa_pose.cli import main
from psa_pose.engine import record
from psa_pose.engine.evaluate import test as evaluate
from psa_pose.engine.record_files import read_history
from psa_pose.engine.train import train
from tests.engine.conftest import CONFIG, Configure

EVALUATED = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'trainer.limit_val_batches=1.0')
SHORT = (*EVALUATED, 'trainer.limit_train_batches=1')  # one step an epoch


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_run_and_its_resumption(configure: Configure, tmp_path: Path) -> None:
    run = tmp_path / 'run'
    train(configure(*EVALUATED))
    history = read_history(run)
    assert [(e['epoch'], e['step'], e['boxes']) for e in history] == [
        (1, 6, 'ground truth'), (2, 12, 'ground truth'),
    ]  # fmt: skip
    about, metrics = read(run / 'evaluation/about.json'), read(run / 'evaluation/metrics.json')
    assert about['step'] == 12 and about['keypoint_names'][0] == 'nose'
    assert Path(about['ann_file']).is_file() and Path(about['image_root']).is_dir()
    assert metrics == {**history[-1]['metrics'], 'boxes': 'ground truth'}
    results = run / 'evaluation/results.json'
    assert results.stat().st_size == about['results_size']
    assert len(read(results)) > 0
    environment = read(run / 'environment.json')
    assert environment['config'] == str(CONFIG) and environment['from_step'] == 0
    assert not list(run.rglob('*.partial*'))

    # What was written after the checkpoint that a resumed run starts from is not a part of it.
    with (run / 'history.jsonl').open('a') as file:
        file.write(json.dumps({**history[-1], 'epoch': 3, 'step': 18}) + '\nnonsense\n')
    train(configure(*EVALUATED[1:], 'train_cfg.max_epochs=3'), resume=True)
    again = read_history(run)
    assert again[:2] == history and [e['step'] for e in again] == [6, 12, 18]
    assert again[2]['time'] > history[-1]['time'] or again[2]['seconds'] != history[-1]['seconds']
    train(configure(*EVALUATED[1:], 'train_cfg.max_epochs=3'), resume=True)  # it was complete
    assert [(e['epoch'], e['step']) for e in read_history(run)] == [(1, 6), (2, 12), (3, 18)]
    resumed = read(run / 'environment.json')
    assert resumed['from_step'] == 18
    assert [e['from_step'] for e in resumed['earlier']] == [0, 12]
    assert resumed['earlier'][0]['started'] == environment['started']


def test_a_test_is_recorded_where_there_is_a_work_dir(
    configure: Configure, tmp_path: Path, demo_root: Path
) -> None:
    run = tmp_path / 'run'
    train(configure(*SHORT, 'train_cfg.max_epochs=1'))
    before = {p: p.stat().st_mtime_ns for p in run.rglob('*') if p.is_file()}
    last = run / 'checkpoints/last.ckpt'
    evaluate(configure(*EVALUATED), last)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert sorted(p.name for p in (run / 'test').iterdir()) == [
        'about.json', 'config.py', 'environment.json', 'metrics.json', 'results.json',
    ]  # fmt: skip
    assert read(run / 'test/about.json')['checkpoint'] == str(last)
    # The default work dir of a config that nobody trained is not made for a test.
    elsewhere = tmp_path / 'elsewhere'
    cfg = configure(*EVALUATED)
    cfg.work_dir = str(elsewhere)
    evaluate(cfg, last)
    assert not elsewhere.exists()
    options = [f'{part}_dataloader.dataset.data_root={demo_root}' for part in ('train', 'val')]
    command = ['test', str(CONFIG), str(last), '--work-dir', str(elsewhere), '--cfg-options']
    assert main([*command, *options, 'val_dataloader.num_workers=0']) == 0
    assert (elsewhere / 'test/metrics.json').is_file()


def test_an_evaluation_after_the_start_of_a_resumption_is_forgotten(tmp_path: Path) -> None:
    about = tmp_path / 'evaluation/about.json'
    about.parent.mkdir()
    history = [{'epoch': 1, 'step': 6, 'metrics': {}}, {'epoch': 2, 'step': 12, 'metrics': {}}]
    trainer: Any = SimpleNamespace(is_global_zero=True, fast_dev_run=False)
    guard: Any = SimpleNamespace(total=0)
    for step, resumed, there in ((12, 12, True), (12, 7, False), (6, 7, True), (6, None, False)):
        (tmp_path / 'history.jsonl').write_text('\n'.join(map(json.dumps, history)))
        about.write_text(json.dumps({'step': step}))
        record.RunRecord(tmp_path, {}, guard, resumed).on_fit_start(trainer, trainer)
        assert about.exists() == there, (step, resumed)


def test_a_dry_run_leaves_nothing(configure: Configure, tmp_path: Path) -> None:
    train(configure(*EVALUATED), dry_run=True)
    assert not (tmp_path / 'run').exists()


def test_a_record_that_cannot_be_written_ends_nothing(
    configure: Configure, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place of its folder is taken; the history beside it is written all the same."""
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'evaluation').write_text('in the way')
    train(configure(*SHORT))
    said = capsys.readouterr()
    assert said.err.count(f'warning: cannot write the record in {run}: Not a directory') == 1
    assert 'OKS-AP' in said.out
    assert [e['step'] for e in read_history(run)] == [1, 2]


def test_a_gap_is_filled_when_the_file_system_is_back(
    configure: Configure, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first evaluation meets with a full disk, the second one writes both."""
    write, failures = record.write_text, iter([None, None, OSError(28, 'No space left on device')])

    def full(path: Path, text: str) -> None:
        if error := next(failures, None):
            raise error
        write(path, text)

    monkeypatch.setattr(record, 'write_text', full)
    train(configure(*SHORT))
    assert 'No space left on device' in capsys.readouterr().err
    assert [e['step'] for e in read_history(tmp_path / 'run')] == [1, 2]


def test_predictions_take_a_small_share_of_the_time(
    configure: Configure, tmp_path: Path, monkeypatch: Any
) -> None:
    """Where writing them is slow they wait; those of the last evaluation never do."""
    written = []
    original = record.write_evaluation

    def slow(folder: Path, module: Any, about: Any) -> None:
        original(folder, module, about)
        written.append(about['step'])

    monkeypatch.setattr(record, 'write_evaluation', slow)
    monkeypatch.setattr(record, 'SHARE', 1e-9)
    train(configure(*SHORT, 'train_cfg.max_epochs=3'))
    assert written == [1, 3]


def test_metrics_of_several_kinds(configure: Configure, tmp_path: Path) -> None:
    metrics = "val_evaluator=[dict(type='EPE', prefix='far'), dict(type='CocoMetric')]"
    train(configure(*SHORT, 'train_cfg.max_epochs=1', metrics))
    about = read(tmp_path / 'run/evaluation/about.json')
    assert [(t['metric'], t['prefix']) for t in about['tables']] == [
        ('EPE', 'far'), ('CocoMetric', ''),
    ]  # fmt: skip
    assert {'far/EPE', 'AP'} <= read_history(tmp_path / 'run')[0]['metrics'].keys()


def test_damaged_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    entry = {'epoch': 1, 'step': 6, 'metrics': {'AP': 0.5}}
    lines = [json.dumps(entry), '{"epoch": 2, "st', '[]', '{"step": "x"}', '\x00']
    (tmp_path / 'history.jsonl').write_text('\n'.join(lines))
    assert read_history(tmp_path) == [entry]


def test_whatever_a_record_meets_the_run_goes_on(
    configure: Configure, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record that was edited by hand, and a metric of the user's that fails in its own way."""
    train(configure(*SHORT, 'train_cfg.max_epochs=1'))
    path = tmp_path / 'run/environment.json'
    path.write_text(json.dumps({**read(path), 'earlier': None}))

    def failing(*_: Any) -> None:
        raise KeyError('of its own')

    monkeypatch.setattr(record, 'write_evaluation', failing)
    train(configure(*SHORT), resume=True)
    assert 'warning: cannot write the record' in capsys.readouterr().err
    assert [e['step'] for e in read_history(tmp_path / 'run')] == [1, 2]
    assert [e['from_step'] for e in read(path)['earlier']] == [0]
    evaluate(configure(*EVALUATED), tmp_path / 'run/checkpoints/last.ckpt')
    assert "'of its own'" in capsys.readouterr().err
