"""Real studies of a tiny network on a few rendered people, from the file to the tables."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from psa_pose.ablation import read_study, timing
from psa_pose.ablation.provenance import differences, provenance
from psa_pose.ablation.statistics import Difference
from psa_pose.ablation.summary import Row, Summary
from psa_pose.ablation.tables import as_csv, as_markdown
from psa_pose.ablation.timing import steps_in
from psa_pose.cli import main
from psa_pose.datasets.synthetic import render_dataset
from psa_pose.errors import ResultError
from psa_pose.models import TopdownPoseEstimator
from tests.conftest import ROOT
from tests.processes import Training, options

STUDY = """
title = 'A small study'
base = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
factors = dict(attention=['none', 'psa_parallel'])
seeds = (0, 1)
budget = dict(steps=12)
metric = 'PCK'
also = ('AP', 'EPE')
options = {
    'train_dataloader.dataset.data_root': 'ROOT',
    'val_dataloader.dataset.data_root': 'ROOT',
    'train_dataloader.num_workers': 0,
    'train_dataloader.batch_size': 8,
    'val_dataloader.num_workers': 0,
    'val_evaluator': [dict(type='CocoMetric'), dict(type='PCKAccuracy', thr=0.3), dict(type='EPE')],
    'default_hooks.logger.interval': 4,
    'default_hooks.checkpoint.interval': 3,
    'default_hooks.checkpoint.by_epoch': False,
}
"""
CELLS = [f'{arm}/seed{seed}' for seed in (0, 1) for arm in ('none', 'psa_parallel')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('few')
    render_dataset(root, 'train', 16, seed=1)
    render_dataset(root, 'val', 8, seed=1)
    return root


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """A study's folder with its file, every cell trained in this process; and what each saw."""
    folder = tmp_path_factory.mktemp('study')
    (folder / 'study.py').write_text(STUDY.replace('ROOT', str(data)))
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(timing, 'ROUNDS', 2)
        loss = TopdownPoseEstimator.loss
        for cell in CELLS:
            crcs = seen[cell] = []

            def note(self, batch, crcs=crcs):
                crcs.append([zlib.crc32(np.ascontiguousarray(part.cpu())) for part in batch])
                return loss(self, batch)

            patch.setattr(TopdownPoseEstimator, 'loss', note)
            assert ablate(folder, '--cell', cell) == 0
        patch.setattr(TopdownPoseEstimator, 'loss', loss)
        assert ablate(folder) == 0
    return folder, seen


@pytest.fixture
def study(trained, tmp_path, monkeypatch):
    """A copy of the trained study, to do harm to."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(timing, 'ROUNDS', 2)
    folder = tmp_path / 'study'
    shutil.copytree(trained[0], folder, ignore=shutil.ignore_patterns('tensorboard'))
    return folder


def ablate(folder, *options):
    return main(['ablate', str(folder / 'study.py'), '--work-dir', str(folder / 'run'), *options])


def change(folder, old, new):
    text = (folder / 'study.py').read_text()
    assert old in text
    (folder / 'study.py').write_text(text.replace(old, new))


def alter(path, **values):
    content = json.loads(path.read_text())
    for key, value in values.items():
        *parents, last = key.split('__')
        at = content
        for name in parents:
            at = at[name]
        at[last] = value
    path.write_text(json.dumps(content))


class TestTables:
    def test_they_say_what_the_cells_found(self, trained):
        run = trained[0] / 'run'
        done = {cell: json.loads((run / cell / 'done.json').read_text()) for cell in CELLS}
        rows = list(csv.DictReader((run / 'table.csv').open()))
        assert [(r['attention'], r['seed']) for r in rows] == [
            (arm, seed) for arm in ('none', 'psa_parallel') for seed in ('0', '1', 'mean')
        ]
        for row in rows:
            if row['seed'] != 'mean':
                numbers = done[f'{row["attention"]}/seed{row["seed"]}']['metrics']
                assert all(float(row[n]) == numbers[n] for n in ('PCK', 'AP', 'EPE', 'AR'))
        pck = {cell: found['metrics']['PCK'] for cell, found in done.items()}
        gains = [pck[f'psa_parallel/seed{s}'] - pck[f'none/seed{s}'] for s in (0, 1)]
        mean = rows[-1]
        assert float(mean['PCK gain']) == pytest.approx(np.mean(gains))
        assert float(mean['PCK seed low']) < np.mean(gains) < float(mean['PCK seed high'])
        assert float(mean['PCK low']) < float(mean['PCK high'])
        epe = {cell: found['metrics']['EPE'] for cell, found in done.items()}
        gain = np.mean([epe[f'psa_parallel/seed{s}'] - epe[f'none/seed{s}'] for s in (0, 1)])
        assert float(mean['EPE gain']) == pytest.approx(gain)
        assert mean['EPE low'] == ''  # it cannot be resampled
        assert float(mean['step ms']) > 0
        assert int(mean['parameters']) > int(rows[0]['parameters'])

    def test_each_number_has_its_own_direction(self, trained):
        study = read_study(trained[0] / 'study.py')
        up = Difference(0.02, 3, (0.01, 0.03), (0.01, 0.03))
        down = Difference(-2.0, 3, (-3.0, -1.0), (-3.0, -1.0))
        gains = {'PCK': up, 'AP': replace(up, interval=None), 'EPE': down}
        values = {name: {} for name in gains}
        row = Row('psa_parallel', {}, values, gains, None, None, (), ())
        summary = Summary(study, (row,), ('PCK',), ())
        cells = next(csv.DictReader(as_csv(summary).splitlines()))
        verdicts = [cells[f'{name} verdict'] for name in ('PCK', 'AP', 'EPE')]
        assert verdicts == ['better', 'better by seeds alone', 'better']
        assert '+0.0200 better by seeds alone' in as_markdown(summary, 'plot.svg')
        assert '-2.0000 better' in as_markdown(summary, 'plot.svg')
        assert '3 comparisons' in as_markdown(summary, 'plot.svg')

    def test_text_page_and_plot(self, trained):
        run = trained[0] / 'run'
        text = (run / 'table.txt').read_text()
        assert 'A small study' in text.splitlines()[0]
        (row,) = [line for line in text.splitlines() if 'psa_parallel' in line and '±' in line]
        assert row.count('±') == 3  # of PCK, AP and EPE
        assert ' against none, ' in text
        assert 'boxes: ground truth' in text
        assert 'persons of' in text
        markdown = (run / 'table.md').read_text().splitlines()
        table = [line for line in markdown if line.startswith('|')]
        assert len(table) == 4
        assert {line.count('|') for line in table} == {table[0].count('|')}
        assert '](plot.svg)' in '\n'.join(markdown)
        page = (run / 'table.html').read_text()
        assert page.count('<svg') == 1
        assert 'A small study' in page
        assert 'src=' not in page
        assert json.loads((run / 'table.json').read_text())['rows'][1]['arm'] == 'psa_parallel'

    def test_nothing_is_trained_again(self, study, capsys):
        before = {path: path.stat().st_mtime_ns for path in (study / 'run').glob('*/*/done.json')}
        times = (study / 'run/timing/times.json').read_bytes()
        assert ablate(study) == 0
        assert '4 cells, 0 to train' in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert (study / 'run/timing/times.json').read_bytes() == times

    def test_of_an_unfinished_study(self, study, capsys):
        (study / 'run/psa_parallel/seed1/done.json').unlink()
        shutil.rmtree(study / 'run/timing')
        assert ablate(study, '--table') == 0
        out = capsys.readouterr().out
        assert 'seed 1 not finished' in out
        assert 'one seed, which says nothing of the noise' in out
        assert not (study / 'run/timing').exists()  # a login node's times would be no use


class TestPairs:
    def test_arms_of_a_seed_saw_the_very_same_batches(self, trained):
        seen = trained[1]
        assert len(seen['none/seed0']) == 12
        assert seen['none/seed0'] == seen['psa_parallel/seed0']
        assert seen['none/seed1'] == seen['psa_parallel/seed1']
        assert seen['none/seed0'] != seen['none/seed1']

    @pytest.mark.slow
    def test_a_killed_study_goes_on_to_the_same_numbers(self, trained, tmp_path, monkeypatch):
        """kill -9 of the runner amidst the training of a cell, which is gone on with."""
        monkeypatch.chdir(ROOT)
        shutil.copy(trained[0] / 'study.py', tmp_path)
        shutil.copytree(trained[0] / 'run/timing', tmp_path / 'run/timing')
        command = [sys.executable, 'tools/ablate.py', tmp_path / 'study.py', '--work-dir']
        runner = subprocess.Popen([*command, tmp_path / 'run'], stdout=subprocess.DEVNULL)
        cell, end = tmp_path / 'run/none/seed0', time.monotonic() + 120
        while not list(cell.glob('run/checkpoints/epoch=*_step=3.ckpt')):
            assert runner.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()
        time.sleep(1.5)  # its cell leaves
        steps = [int(p.stem.rpartition('=')[2]) for p in cell.glob('run/checkpoints/epoch*.ckpt')]
        assert not (cell / 'done.json').exists()
        assert max(steps) < 12
        assert ablate(tmp_path, '--cell', 'none/seed0') == 0
        first, second = (
            json.loads((folder / 'run/none/seed0/done.json').read_text())
            for folder in (trained[0], tmp_path)
        )
        assert second['metrics'] == first['metrics']
        arrays = [np.load(f / 'run/none/seed0/predictions.npz') for f in (trained[0], tmp_path)]
        assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])

    def test_a_stop_that_comes_twice_is_one(self, tmp_path, data):
        """SLURM sends SIGTERM to all processes, and the runner hands it on to the same ones."""
        training = Training(tmp_path, *options(data), PSA_POSE_LAUNCHER='1')
        training.wait_for('step 2/')
        for _ in range(2):
            training.send(signal.SIGTERM)
            time.sleep(0.005)
        assert training.wait() == 128 + signal.SIGTERM
        assert 'at once' not in training.log.replace('a second signal ends it at once', '')
        assert (training.folder / 'last.ckpt').exists()


class TestMixed:
    def refused(self, study, capsys, *words):
        assert ablate(study) == 1
        error = capsys.readouterr().err
        for word in words:
            assert word in error
        assert '--allow-mixed' in error

    def test_config(self, study, capsys):
        change(study, 'options = {', "options = {'optim_wrapper.optimizer.lr': 0.5,")
        words = (
            'the cell none/seed0 was finished otherwise',
            'config optim_wrapper.optimizer.lr: 0.002, now 0.5',
        )
        self.refused(study, capsys, *words)

    def test_code_and_torch(self, study, capsys):
        alter(
            study / 'run/psa_parallel/seed1/done.json',
            provenance__torch='1.0',
            provenance__commit='0ld',
            **{'provenance__code__registry.py': 'abc', 'provenance__code__models/gone.py': 'def'},
        )
        words = ('psa_parallel/seed1', 'torch: 1.0, now ', 'commit: 0ld, now ')
        words += ('code registry.py: abc, now ', 'code models/gone.py: def, now nothing')
        self.refused(study, capsys, *words)

    def test_data(self, study, data, tmp_path, capsys):
        other = tmp_path / 'other'
        shutil.copytree(data, other)
        file = other / 'annotations/person_keypoints_val.json'
        content = json.loads(file.read_text())
        content['annotations'][0]['keypoints'][0] += 1
        file.write_text(json.dumps(content))
        change(study, str(data), str(other))
        self.refused(study, capsys, 'data val: ', 'config val_dataloader.dataset.data_root')

    def test_precision(self, study, capsys):
        alter(study / 'run/none/seed1/done.json', provenance__step='bfloat16 autocast')
        self.refused(study, capsys, 'step: bfloat16 autocast, now float32')

    def test_a_cell_begun_otherwise_is_not_gone_on_with(self, study, capsys):
        cell = study / 'run/none/seed0'
        (cell / 'done.json').unlink()
        alter(cell / 'started.json', torch='1.0')
        self.refused(study, capsys, 'the cell none/seed0 was begun otherwise', 'torch: 1.0, now')
        assert ablate(study, '--cell', 'none/seed0') == 1  # a runner elsewhere may not know
        assert not (cell / 'done.json').exists()

    def test_weights_of_which_nothing_is_known(self, study, capsys):
        for file in ('done.json', 'started.json'):
            (study / 'run/none/seed0' / file).unlink()
        self.refused(study, capsys, 'the cell none/seed0 was begun otherwise', ': nothing, now ')

    def test_a_start_from_other_weights_of_the_same_name(self, study, tmp_path):
        start = tmp_path / 'start.pth'
        start.write_bytes(b'one training')
        change(study, 'options = {', f"options = {{'load_from': '{start}',")
        cell = read_study(study / 'study.py').cells()[0]
        before = provenance(cell)
        assert differences(before, provenance(cell)) == []
        start.write_bytes(b'another training')
        (line,) = differences(before, provenance(cell))
        assert line.startswith(f'weights {start}: ')
        start.unlink()
        assert differences(before, provenance(cell)) == []  # a table can be written without them

    def test_allowed_and_said(self, study, capsys):
        for cell in CELLS[:2]:
            alter(study / f'run/{cell}/done.json', provenance__torch='1.0')
        assert ablate(study, '--allow-mixed') == 0
        text = (study / 'run/table.txt').read_text()
        assert text.count('MIXED torch: 1.0, now ') == 1
        assert '(none/seed0, psa_parallel/seed0)' in text

    def test_damaged(self, study, capsys):
        (study / 'run/none/seed1/done.json').write_text('{"metrics": ')
        assert ablate(study) == 1
        assert 'run/none/seed1/done.json: ' in capsys.readouterr().err

    def test_what_only_people_read_may_differ(self):
        before = {'commit': 'a', 'machine': 'b', 'torch': '2', 'config': {'x': '1'}}
        assert differences(before, {**before, 'commit': 'c', 'machine': 'd'}) == []


class TestFailures:
    def test_a_cell_that_fails(self, study, capsys):
        """One arm cannot be built: it says so, is recorded, and the table has the others."""
        rate = "x=dict(one={}, two={'model.backbone.arch': 'w31'})"
        change(
            study, "factors = dict(attention=['none', 'psa_parallel'])", f'factors = dict({rate})'
        )
        change(study, 'seeds = (0, 1)', "seeds = (0,)\nbaseline = dict(x='one')")
        shutil.move(study / 'run/psa_parallel', study / 'run/one')  # the base has PSA
        assert ablate(study) == 1
        output = capsys.readouterr()
        assert 'untimed   two: ConfigError' in output.err
        assert 'FAILED    two/seed0: exit status 1, error: ' in output.err
        assert 'seed 0 failed' in output.out
        assert 'w31' in (study / 'run/two/seed0/failed.json').read_text()

    def test_a_metric_that_nobody_gives_is_refused_before_training(self, study, capsys):
        change(study, "also = ('AP', 'EPE')", "also = ('AP', 'EPP')")
        shutil.rmtree(study / 'run')
        assert ablate(study) == 1
        assert "also: no evaluator gives 'EPP'; did you mean 'EPE'?" in capsys.readouterr().err
        assert not (study / 'run').exists()

    def test_no_jobs(self, study, capsys):
        assert ablate(study, '--jobs', '0') == 1
        assert '--jobs: expected a number above 0' in capsys.readouterr().err

    def test_no_such_cell(self, study, capsys):
        assert ablate(study, '--cell', 'none/seed7') == 1
        assert "no cell 'none/seed7'" in capsys.readouterr().err


class TestTiming:
    def entry(self, study, machine, seconds, ratio, arms=('none', 'psa_parallel')):
        digests = study.digests()
        times = {'none': (seconds, 1.0), 'psa_parallel': (seconds * ratio * 3, ratio)}
        return {
            'machine': machine,
            'torch': '2',
            'threads': 1,
            'code': {},
            'baseline': digests['none'],
            'times': {
                digests[a]: dict(zip(('seconds', 'ratio'), times[a], strict=True)) for a in arms
            },
        }

    def write(self, folder, *entries):
        (folder / 'timing').mkdir(parents=True, exist_ok=True)
        (folder / 'timing/times.json').write_text(json.dumps(entries))

    def test_the_first_measurement_decides_what_cells_train(self, study, tmp_path):
        read = read_study(study / 'study.py')
        first = self.entry(read, 'A', 0.5, 1.25)
        self.write(tmp_path, first)
        # 60 s / 0.5 s, and by the ratio: seconds alone may owe to what else the machine did
        expected = {'none': 120, 'psa_parallel': 96}
        assert steps_in(1, read, tmp_path) == expected
        self.write(tmp_path, first, self.entry(read, 'B', 0.1, 2.0))
        assert steps_in(1, read, tmp_path) == expected

    def test_an_arm_that_comes_later_is_measured_by_its_ratio(self, study, tmp_path):
        read = read_study(study / 'study.py')
        first = self.entry(read, 'A', 0.5, 1.25, arms=('none',))
        self.write(tmp_path, first)
        with pytest.raises(ResultError, match='no time of a step of psa_parallel'):
            steps_in(1, read, tmp_path)
        self.write(tmp_path, first, self.entry(read, 'B', 0.1, 2.0))
        assert steps_in(1, read, tmp_path) == {'none': 120, 'psa_parallel': 60}

    def test_this_machines_times_are_shown(self, study, tmp_path, monkeypatch):
        monkeypatch.setattr(timing, 'machine', lambda: 'A')
        read = read_study(study / 'study.py')
        entries = [self.entry(read, name, s, 2.0) for name, s in (('A', 0.5), ('A', 0.4), ('B', 9))]
        self.write(tmp_path, *entries)
        times, where = timing.step_times(read, tmp_path)
        assert (times['none']['seconds'], where) == (0.4, 'A')
        assert timing.step_times(read, Path('nowhere')) == ({}, '')

    def test_a_step_counts_all_batches_of_it(self, study, monkeypatch):
        cfg = read_study(study / 'study.py').configs['none']
        calls = []
        loss = TopdownPoseEstimator.loss
        monkeypatch.setattr(
            TopdownPoseEstimator, 'loss', lambda self, batch: calls.append(1) or loss(self, batch)
        )
        cfg.optim_wrapper['accumulative_counts'] = 3
        timing.make_step(cfg)()
        assert len(calls) == 3

    def test_a_study_of_minutes_needs_a_time_of_every_arm(self, study, capsys):
        change(study, 'budget = dict(steps=12)', 'budget = dict(minutes=1)')
        shutil.rmtree(study / 'run')
        assert ablate(study, '--cell', 'none/seed0') == 1
        assert 'no time of a step of none' in capsys.readouterr().err
