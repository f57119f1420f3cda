"""The runner with real processes that are quick: several of them, kills, signals, failures."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from psa_pose.ablation import runner as runner_module
from psa_pose.ablation.runner import Runner, devices
from psa_pose.engine.signals import LAUNCHED

# What a cell's process does, without five seconds of imports: it says so, waits, and is done.
CELL = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]) / sys.argv[2]
with (folder.parent / 'starts.txt').open('a') as file:
    file.write(folder.name + '\\n')
plan = json.loads((folder.parent / 'plan.json').read_text()).get(folder.name, {})
def save(number, frame):
    (folder / 'saved').touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
(folder / 'pid').write_text(str(os.getpid()))
if 'error' in plan and not (folder / 'mended').exists():
    print('many words')
    print('error: ' + plan['error'])
    sys.exit(1)
if 'kill' in plan:
    os.kill(os.getpid(), signal.SIGKILL)
(folder / 'place.json').write_text(json.dumps(dict(os.environ)))
time.sleep(plan.get('seconds', 0.02))
(folder / 'done.json').write_text('{"provenance": {}}')
(folder / 'failed.json').unlink(missing_ok=True)
"""
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['psa_pose.ablation.runner'])


@pytest.fixture
def study(tmp_path):
    yield Fake(tmp_path)
    for file in tmp_path.glob('*/pid'):  # those that a killed runner left
        if (file.parent / 'place.json').exists() and not gone(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)


class Fake:
    def __init__(self, folder, **plan):
        self.folder = folder
        self.plan(**plan)

    def plan(self, **plan):
        (self.folder / 'plan.json').write_text(json.dumps(plan))

    def runner(self, count=4):
        cells = [SimpleNamespace(name=f'c{i}') for i in range(count)]
        return Runner(cells, self.folder, [sys.executable, '-S', '-c', CELL, str(self.folder)])

    @property
    def starts(self):
        file = self.folder / 'starts.txt'
        return Counter(file.read_text().split()) if file.exists() else Counter()

    def done(self):
        return sorted(path.parent.name for path in self.folder.glob('*/done.json'))


def work(folder, count, jobs):
    """A runner in a process of its own, as on another machine."""
    runner_module.POLL = 0.1
    runner = Fake.runner(SimpleNamespace(folder=Path(folder)), count)
    runner.run([None] * jobs)
    sys.exit(128 + runner.stopped if runner.stopped else 0)


def wait_for(condition, timeout=30):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'


class TestAlone:
    def test_every_cell_once_and_never_again(self, study):
        study.runner().run([None])
        study.runner().run([None])
        assert study.done() == ['c0', 'c1', 'c2', 'c3']
        assert set(study.starts.values()) == {1}

    def test_it_says_what_is_left_and_how_long_that_takes(self, study, capsys):
        runner = study.runner()
        runner.run([None])
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('done')]
        found = [re.fullmatch(r'done      c\d, \d\.\d min(?:; (\d) left, .*)?', x) for x in lines]
        assert [match and match[1] for match in found] == ['3', '2', '1', None]
        runner = study.runner(10)  # six more
        runner._jobs = 2
        assert runner._left(10.0) == '; 6 left, about 30 min'
        runner = study.runner(7)
        runner._jobs = 2
        assert runner._left(10.0) == '; 3 left, about 20 min'  # the last one alone

    def test_what_failed_is_not_left(self, study, capsys):
        study.plan(c0={'error': 'no such file'})
        study.runner(2).run([None])
        assert re.search(r'^done      c1, \d\.\d min$', capsys.readouterr().out, re.M)

    def test_side_by_side(self, study):
        study.plan(**{f'c{i}': {'seconds': 1.5} for i in range(4)})
        start = time.monotonic()
        study.runner().run([None] * 4)
        assert time.monotonic() - start < 5  # one after another: 6 s and more
        assert set(study.starts.values()) == {1}

    def test_a_gpu_each_is_all_that_a_cell_sees(self, study):
        study.runner(2).run(['3'])
        place = json.loads((study.folder / 'c1/place.json').read_text())
        assert place['CUDA_VISIBLE_DEVICES'] == '3'
        assert place[LAUNCHED] == str(os.getpid())

    def test_devices(self, monkeypatch):
        assert devices(None) == [None]
        assert devices(3) == [None] * 3
        monkeypatch.setattr('psa_pose.ablation.runner.gpus', lambda: 2)
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
        assert devices(None) == ['4', '6']
        assert devices(1) == ['4']
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
        assert devices(None) == ['0', '1']


class TestFailures:
    def test_is_recorded_the_others_go_on_and_the_next_call_tries_again(self, study, capsys):
        study.plan(c1={'error': 'no such file'}, c2={'kill': 1})
        study.runner().run([None])
        assert study.done() == ['c0', 'c3']
        failed = json.loads((study.folder / 'c1/failed.json').read_text())
        assert failed['how'] == 'exit status 1'
        assert failed['last lines'] == ['many words', 'error: no such file']
        assert 'FAILED    c1: exit status 1, error: no such file' in capsys.readouterr().err
        killed = json.loads((study.folder / 'c2/failed.json').read_text())
        assert killed['how'] == 'killed by SIGKILL'
        (study.folder / 'c1/mended').touch()
        study.plan(c1={'error': 'no such file'})
        study.runner().run([None])
        assert study.done() == ['c0', 'c1', 'c2', 'c3']
        assert not list(study.folder.glob('*/failed.json'))
        assert study.starts == {'c0': 1, 'c1': 2, 'c2': 2, 'c3': 1}

    def test_what_failed_elsewhere_meanwhile_is_not_tried_again(self, study):
        study.plan(c1={'error': 'here as there'})
        late = study.runner()
        study.runner().run([None])
        late.run([None])
        assert study.starts == {'c0': 1, 'c1': 1, 'c2': 1, 'c3': 1}


class TestSeveral:
    def test_runners_share_the_cells(self, study):
        study.plan(**{f'c{i}': {'seconds': 0.05} for i in range(12)})
        runners = [CONTEXT.Process(target=work, args=(study.folder, 12, 1)) for _ in range(3)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join(60)
        assert [runner.exitcode for runner in runners] == [0, 0, 0]
        assert study.starts == {f'c{i}': 1 for i in range(12)}
        assert len(study.done()) == 12

    def test_a_runner_killed_takes_its_cells_along_and_another_goes_on(self, study):
        study.plan(c0={'seconds': 60})
        first = CONTEXT.Process(target=work, args=(study.folder, 2, 1))
        first.start()
        wait_for((study.folder / 'c0/pid').exists)
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        study.plan()
        study.runner(2).run([None])
        assert study.done() == ['c0', 'c1']

    @pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    def test_a_signal_lets_cells_save_and_no_more_start(self, study, number):
        study.plan(c0={'seconds': 60}, c1={'seconds': 60})
        process = CONTEXT.Process(target=work, args=(study.folder, 4, 2))
        process.start()
        wait_for(lambda: len(list(study.folder.glob('c[01]/place.json'))) == 2)
        os.kill(process.pid, number)
        process.join(30)
        assert process.exitcode == 128 + number
        assert sorted(p.parent.name for p in study.folder.glob('*/saved')) == ['c0', 'c1']
        assert study.starts == {'c0': 1, 'c1': 1}
        assert not list(study.folder.glob('*/failed.json'))

    def test_a_cell_that_hears_of_a_stop_before_its_runner_has_not_failed(self, study):
        study.plan(c0={'seconds': 60})
        process = CONTEXT.Process(target=work, args=(study.folder, 1, 1))
        process.start()
        wait_for((study.folder / 'c0/place.json').exists)
        os.kill(int((study.folder / 'c0/pid').read_text()), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGTERM)
        process.join(30)
        assert process.exitcode == 143
        assert not (study.folder / 'c0/failed.json').exists()

    def test_it_waits_for_a_cell_of_another_and_takes_it_when_that_one_dies(self, study):
        study.plan(c0={'seconds': 60})
        other = CONTEXT.Process(target=work, args=(study.folder, 1, 1))
        other.start()
        wait_for((study.folder / 'c0/pid').exists)
        waiting = CONTEXT.Process(target=work, args=(study.folder, 1, 1))
        waiting.start()
        time.sleep(1)
        assert waiting.is_alive()
        study.plan()
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        waiting.join(30)
        assert waiting.exitcode == 0
        assert study.done() == ['c0']

    def test_a_cell_taken_over_is_left(self, study, monkeypatch, capsys):
        monkeypatch.setattr('psa_pose.ablation.claim.HEARTBEAT', 0.05)
        study.plan(c0={'seconds': 60})
        thread = threading.Timer(2, lambda: (study.folder / 'c0/claim-2.json').write_text('{}'))
        thread.start()
        study.runner(1).run([None])
        thread.join()
        assert 'another process has taken it over' in capsys.readouterr().err
        assert gone(int((study.folder / 'c0/pid').read_text()))
        assert not (study.folder / 'c0/failed.json').exists()


def test_a_cells_process_leaves_with_its_runner(tmp_path):
    """Killed as nobody can foresee: the cell must not train on beside the one that follows."""
    script = (
        'import os, subprocess, sys, time\n'
        'child = "from psa_pose.ablation.runner import leave_with_parent as leave; import time;"\n'
        'child += "leave(); print(1, flush=True); time.sleep(60)"\n'
        f'environment = dict(os.environ, {LAUNCHED}=str(os.getpid()))\n'
        'process = subprocess.Popen([sys.executable, "-c", child], env=environment,\n'
        '                           stdout=subprocess.PIPE, start_new_session=True)\n'
        'process.stdout.readline()\n'
        'print(process.pid, flush=True)\n'
        'time.sleep(60)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: gone(pid))
