"""Workers that die, hang or find no memory, in real processes: said in a line, soon, no remains."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from psa_pose.datasets import CocoStyleDataset, PoseDataLoader, system, workers
from psa_pose.datasets.worker_errors import explain
from psa_pose.errors import DataError, WorkerError
from tests.conftest import ROOT
from tests.datasets.doomed import PIPELINE
from tests.handmade import coco_content, person_entry, write_dataset
from tests.processes import run_script

PROGRAM = """
import ctypes
import os
import signal
import sys
import time
from torch.utils.data._utils import pin_memory
from psa_pose.datasets import CocoStyleDataset, PoseDataLoader
from tests.datasets.doomed import PIPELINE, pretend_an_accelerator

class Doomed(CocoStyleDataset):
    def _raw(self, index):
        doom(index)
        return super()._raw(index)

def loader_of(count, **options):
    dataset = Doomed('annotations.json', PIPELINE, (24, 32), data_root=sys.argv[1])
    return PoseDataLoader(dataset, 2, train=False, num_workers=count, **options)
"""
UNCAUGHT_BUG = """
def doom(index):
    pass

loader = loader_of(2)
for _ in loader:
    raise ZeroDivisionError('a bug')
"""
STOPPED_BEFORE_IT_IS_PINNED = """
def doom(index):
    if index == 4:
        os.kill(os.getpid(), signal.SIGSTOP)

def slowly(data, device):
    time.sleep(0.5)
    return data

pretend_an_accelerator()
pin_memory.pin_memory = slowly  # the second batch is announced and not fetched
for _ in loader_of(1, pin_memory=True):
    time.sleep(1)
    raise ZeroDivisionError('a bug')
"""
HANGS_IN_C = """
def doom(index):
    if index == 2:  # a lock that is taken twice
        lock = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(lock)

for _ in loader_of(1):
    break
"""
DISK = '/var/tmp'  # where /dev/shm is another one, what was there is gone
TINY_SHARED_MEMORY = 'mount -t tmpfs -o size={} tmpfs /dev/shm && exec "$@"'


def twelve_persons(folder):
    persons = [person_entry(i, image_id=i) for i in range(1, 13)]
    write_dataset(folder, coco_content(persons))
    return folder


@pytest.fixture
def root(tmp_path):
    return twelve_persons(tmp_path)


@pytest.fixture
def on_disk():
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        yield twelve_persons(Path(folder))


def misfortune(root, what, count, *more, prefix=()):
    """What `tests.datasets.doomed` reports."""
    arguments = [str(word) for word in (root, what, count, *more)]
    if prefix:
        command = [*prefix, sys.executable, '-m', 'tests.datasets.doomed', *arguments]
        with_disk = os.environ | {'TMPDIR': DISK}
        run = subprocess.run(
            command, cwd=ROOT, env=with_disk, capture_output=True, text=True, timeout=120
        )
    else:
        run = run_script(ROOT / 'tests/datasets/doomed.py', arguments, timeout=120)
    assert run.returncode == 0, run.stderr
    assert 'Traceback' not in run.stderr, run.stderr
    report = json.loads(run.stdout)
    assert report['left'] == []
    return report


def test_they_are_forked_unless_another_way_was_chosen():
    script = """
import multiprocessing
from psa_pose.datasets.workers import context
print(context().get_start_method(), multiprocessing.get_start_method(allow_none=True))
multiprocessing.set_start_method('spawn')
print(context().get_start_method())
"""
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ['fork', 'None', 'spawn'], done.stderr


class TestDeath:
    @pytest.mark.parametrize(
        ('what', 'said'),
        [
            ('kill', r'worker \d of \d \(pid \d+\) was killed by SIGKILL, most likely .* memory'),
            ('kill:SIGSEGV', r'worker \d of \d \(pid \d+\) was killed by SIGSEGV: a crash'),
            ('kill:SIGBUS', r'was killed by SIGBUS: too little shared memory'),
            ('kill:SIGHUP', r'was killed by SIGHUP, from outside'),
            ('kill:40', r'was killed by signal 40, from outside'),  # of those that have no name
            ('exit:3', 'ended by itself with exit status 3'),
            ('memory', r'a worker found no memory: .* \(num_workers, now \d\)'),
        ],
    )
    @pytest.mark.parametrize('order', ['train', 'evaluate'])
    def test_is_explained(self, root, what, said, order):
        report = misfortune(root, what, 2, order)
        assert report['type'] == 'WorkerError'
        assert re.search(said, report['message']), report['message']
        assert report['seconds'] < 15

    @pytest.mark.parametrize('count', [1, 4])
    def test_with_the_lock_of_the_queue_that_all_answer_by(self, root, count):
        report = misfortune(root, 'lock', count, 'train')
        assert f'of {count} (pid' in report['message'] and 'SIGKILL' in report['message']
        assert f'num_workers, now {count}' in report['message']
        assert report['seconds'] < 30

    @pytest.mark.parametrize('pin', [(), ('pin',)])
    def test_in_a_message_half_sent(self, root, pin):
        report = misfortune(root, 'half', 2, *pin)
        assert 'was killed by SIGKILL' in report['message']

    @pytest.mark.parametrize('pin', [(), ('pin',)])
    def test_with_the_lock_of_the_event_that_all_look_at(self, root, pin):
        report = misfortune(root, 'event', 2, *pin)
        assert 'was killed by SIGKILL' in report['message']

    @pytest.mark.parametrize('what', ['kill', 'exit:3', 'lock'])
    def test_before_its_batch_is_pinned(self, root, what):
        report = misfortune(root, what, 2, 'pin')
        assert re.search('was killed by SIGKILL|exit status 3', report['message'])

    def test_interrupts_nothing_but_the_wait_for_a_batch(self, root):
        report = misfortune(root, 'busy', 1)
        assert 'was killed by SIGKILL' in report['message']
        assert report['batches'] == 1 and report['seconds'] >= 2  # what it was busy with

    def test_outside_the_main_thread(self, root):
        report = misfortune(root, 'kill', 2, 'thread')
        assert 'was killed by SIGKILL' in report['message']
        assert report['seconds'] < 15

    def test_of_an_idle_one_is_told_before_the_next_epoch(self, root):
        report = misfortune(root, 'idle', 2)
        assert 'was killed by SIGKILL' in report['message']
        assert report['batches'] == 6

    def test_names_the_machine_s_memory(self):
        total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
        assert f'the machine has {total:.1f} GB' in system.memory()


class TestHanging:
    def test_a_stopped_worker(self, root):
        report = misfortune(root, 'stop', 2, 3)
        assert report['type'] == 'WorkerError'
        assert 'no batch for 3 s' in report['message']
        assert report['message'].count('is stopped') == 1
        assert 3 <= report['seconds'] < 15

    @pytest.mark.parametrize('place', [DISK, '/dev/shm'])
    def test_a_stuck_file_is_named(self, place):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            stuck = twelve_persons(Path(folder)) / '3.png'
            stuck.unlink()
            os.mkfifo(stuck)
            writer = os.open(stuck, os.O_RDWR)  # opened by someone who never writes
            try:
                report = misfortune(stuck.parent, 'nothing', 2, 3)
            finally:
                os.close(writer)
        assert re.search(rf'is \w+ with {stuck} open[;.]', report['message']), report['message']

    def test_a_start_that_takes_longer_hides_no_later_error(self, root, monkeypatch):
        start = multiprocessing.process.BaseProcess.start

        def slowly(process):
            time.sleep(2.5)
            start(process)

        monkeypatch.setattr(multiprocessing.process.BaseProcess, 'start', slowly)
        monkeypatch.setattr(CocoStyleDataset, '_raw', lambda self, index: torch.zeros(2).view(3))
        with pytest.raises(RuntimeError, match='is invalid for input of size 2'):
            list(loader_of(root, 1, timeout=1))

    def test_patience_must_be_a_length_of_time(self, root):
        with pytest.raises(ValueError, match='timeout must be at least 0'):
            loader_of(root, 2, timeout=-1)


def loader_of(root, count, **options):
    dataset = CocoStyleDataset('annotations.json', PIPELINE, (24, 32), data_root=str(root))
    return PoseDataLoader(dataset, 2, train=False, num_workers=count, **options)


class TestImages:
    """One that cannot be read: its path, from any worker, and no process left."""

    @pytest.mark.parametrize('count', [0, 1, 2])
    @pytest.mark.parametrize('spoil', ['corrupt', 'cut', 'missing', 'folder', 'empty', 'loop'])
    @pytest.mark.parametrize('number', [1, 12])
    def test_stops_with_its_name(self, root, count, spoil, number):
        path = root / f'{number}.png'
        data = path.read_bytes()
        path.unlink()
        if spoil == 'folder':
            path.mkdir()
        elif spoil == 'loop':
            path.symlink_to(path)
        elif spoil != 'missing':
            path.write_bytes({'corrupt': b'\xff\xd8 no', 'cut': data[:60], 'empty': b''}[spoil])
        loader = loader_of(root, count)
        processes = []
        with pytest.raises(DataError, match=rf'image .*/{number}\.png') as caught:
            for _ in loader:
                processes = loader.workers
        assert 'Traceback' not in str(caught.value)
        assert not any(process.is_alive() for process in processes)
        assert list(loader.workers) == []

    def test_mended_the_same_loader_goes_on(self, root):
        path = root / '5.png'
        data = path.read_bytes()
        path.write_bytes(b'')
        loader = loader_of(root, 2)
        with pytest.raises(DataError):
            list(loader)
        path.write_bytes(data)
        assert [b.person.tolist() for b in loader] == [[i, i + 1] for i in range(0, 12, 2)]
        ended = weakref.ref(loader)
        del loader
        assert ended() is None  # not left to the garbage collector, which takes 5 s a worker


class TestSharedMemory:
    def test_pages_of_a_batch(self):
        assert workers.tensor_bytes([1, 4096, 4097]) == 4 * 4096

    def test_arithmetic(self):
        locks = 3 * 3 + 1
        assert workers.shared_memory_needed(10**6, 2, 2) == 6 * 10**6 + locks * 4096
        assert workers.shared_memory_needed(10**6, 2, 0) == 0

    def test_of_a_loader(self, root):
        loader = loader_of(root, 2)
        fields = [torch.zeros(0)]
        for batch in loader:
            fields = list(batch)
        size = sum(field.nbytes for field in fields)
        assert size <= loader.batch_bytes <= size + 64 * len(fields) + 4096
        needed = workers.shared_memory_needed(loader.batch_bytes, 2, 2)
        assert loader.shared_memory_needed == needed
        assert loader_of(root, 0).shared_memory_needed == 0

    @pytest.mark.parametrize(('free', 'fits'), [(1, False), (0, True)])
    def test_is_looked_at_before_the_start(self, root, monkeypatch, free, fits):
        loader = loader_of(root, 1)
        size = loader.shared_memory_needed - free
        monkeypatch.setattr(system, 'shared_memory', lambda: (64_000_000, size))
        if fits:
            assert len(list(loader)) == 6
            return
        with pytest.raises(WorkerError, match=r'/dev/shm has 64\.0 MB, .* --shm-size'):
            next(iter(loader))
        assert list(loader.workers) == []

    @pytest.fixture
    def tiny(self):
        """A prefix for commands, which sees /dev/shm as small as asked for."""
        unshare = ['unshare', '--mount', '--map-root-user', 'bash', '-c']
        try:
            shell = [*unshare, TINY_SHARED_MEMORY.format('64k'), 'bash', 'true']
            permitted = (
                shutil.which('unshare')
                and not subprocess.run(shell, capture_output=True, timeout=30).returncode
            )
        except OSError:
            permitted = False
        if not permitted:
            pytest.skip('no /dev/shm of a size of its own: unshare and mount are not permitted')
        return lambda size: [*unshare, TINY_SHARED_MEMORY.format(size), 'bash']

    def test_too_small_for_real(self, on_disk, tiny):
        report = misfortune(on_disk, 'nothing', 2, prefix=tiny('64k'))
        assert '/dev/shm has 0.1 MB' in report['message']
        assert report['seconds'] < 5

    def test_enough_for_real(self, on_disk, tiny):
        needed = loader_of(on_disk, 2).shared_memory_needed
        report = misfortune(on_disk, 'close', 2, prefix=tiny(needed))
        assert (report['type'], report['batches']) == ('NoneType', 6)

    @pytest.mark.parametrize('pages', [10, 15, 16, 17])
    def test_used_up_by_others_after_the_start(self, on_disk, tiny, pages):
        """Wherever it runs out, the loader says so instead of waiting for a lost batch."""
        report = misfortune(on_disk, f'unchecked:{pages}', 2, prefix=tiny('400k'))
        assert report['type'] == 'WorkerError'
        assert 'too little shared memory: /dev/shm has 0.4 MB' in report['message']
        assert report['seconds'] < 30


class TestExplaining:
    def loader(self):
        return SimpleNamespace(num_workers=2, workers=[], timeout=1)

    @pytest.mark.parametrize(
        ('error', 'said'),
        [
            (RuntimeError('Too many open files. Communication ...'), 'ulimit -n'),
            (RuntimeError('received 0 items of ancdata'), 'ulimit -n'),
            (OSError(12, 'Cannot allocate memory'), 'found no memory'),
        ],
    )
    def test_what_pytorch_says(self, error, said):
        assert said in str(explain(error, self.loader()))

    def test_other_errors_are_none_of_its_business(self):
        assert explain(RuntimeError('shapes differ'), self.loader()) is None

    def test_a_bug_in_a_worker_keeps_its_traceback(self, root, monkeypatch):
        monkeypatch.setattr(CocoStyleDataset, '_raw', lambda self, index: 1 / 0)
        with pytest.raises(ZeroDivisionError, match='Original Traceback'):
            list(loader_of(root, 1))

    @pytest.mark.parametrize('count', [0, 2])
    def test_a_transform_that_runs_out_does_not_end_the_epoch(self, root, monkeypatch, count):
        monkeypatch.setattr(CocoStyleDataset, '_raw', lambda self, index: next(iter(())))
        with pytest.raises(RuntimeError, match='a transform raised StopIteration'):
            list(loader_of(root, count))

    def test_a_bug_leaves_no_process(self, root, monkeypatch):
        monkeypatch.setattr(CocoStyleDataset, '_raw', lambda self, index: 1 / 0)
        loader = loader_of(root, 2)
        batches = iter(loader)
        with pytest.raises(ZeroDivisionError):
            next(batches)
        assert list(loader.workers) == []
        monkeypatch.undo()
        assert len(list(loader)) == 6  # mended, it goes on

    @pytest.mark.parametrize(
        ('program', 'status', 'said'),
        [
            (UNCAUGHT_BUG, 1, 'ZeroDivisionError: a bug'),
            (STOPPED_BEFORE_IT_IS_PINNED, 1, 'ZeroDivisionError: a bug'),
            (HANGS_IN_C, 0, ''),
        ],
    )
    def test_they_do_not_keep_python_from_ending(self, root, program, status, said):
        command = [sys.executable, '-c', PROGRAM + program, root]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert run.returncode == status
        assert run.stderr.rstrip().endswith(said)

    def test_a_start_that_fails_half_way_leaves_no_process(self, root, monkeypatch):
        start, started = multiprocessing.Process.start, []

        def fails(process):
            if len(started) == 2:
                raise OSError(24, 'Too many open files')
            start(process)
            started.append(process)

        monkeypatch.setattr(multiprocessing.process.BaseProcess, 'start', fails)
        begin = time.monotonic()
        with pytest.raises(WorkerError, match='ulimit -n'):
            list(loader_of(root, 4))
        assert time.monotonic() - begin < 4
        assert len(started) == 2 and not any(process.is_alive() for process in started)

    def test_it_can_be_pickled(self, root):
        assert len(list(pickle.loads(pickle.dumps(loader_of(root, 2))))) == 6

    def test_a_fork_that_ends_leaves_them_to_its_parent(self, root):
        batches = iter(loader_of(root, 2))
        next(batches)
        child = os.fork()
        if not child:
            workers._end_all()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(list(batches)) == 5

    def test_only_the_main_thread_sets_a_handler(self, root):
        batches = []
        thread = threading.Thread(target=lambda: batches.extend(loader_of(root, 1)))
        thread.start()
        thread.join(60)
        assert len(batches) == 6
