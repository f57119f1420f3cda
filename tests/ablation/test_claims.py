"""One process works at a cell, whatever the others do."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from psa_pose.ablation import claim
from psa_pose.ablation.claim import PATIENCE, claimed

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['psa_pose.ablation.claim'])


def compete(folder, rounds, barrier, results):
    """Work at cells, and count how often somebody else was there at the same time."""
    met, done = 0, 0
    for number in range(rounds):
        barrier.wait()
        with claimed(folder / str(number)) as ours:
            if ours is None:
                continue
            inside = folder / str(number) / 'inside'
            try:
                inside.touch(exist_ok=False)
            except FileExistsError:
                met += 1
                continue
            time.sleep(0.002)
            inside.unlink()
            done += 1
    results.put((met, done))


def hold(folder, ready):
    with claimed(folder) as ours:
        ready.put(ours is not None)
        time.sleep(60)


def run_competition(folder, rounds, processes=4):
    barrier, results = CONTEXT.Barrier(processes, timeout=60), CONTEXT.Queue()
    arguments = (folder, rounds, barrier, results)
    workers = [CONTEXT.Process(target=compete, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
    return sum(met for met, _ in found), sum(done for _, done in found)


def leave_stale(folder, **who):
    """A claim of a process that nobody can ask, older than anybody waits."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'claim-1.json'
    path.write_text(json.dumps({'host': 'far', 'pid': 1, 'machine': 'far away', **who}))
    os.utime(path, (time.time() - PATIENCE - 60,) * 2)
    return path


class TestManyProcesses:
    def test_never_two_at_one_cell(self, tmp_path):
        met, done = run_competition(tmp_path, 60)
        assert met == 0
        assert done >= 60  # every cell by somebody

    def test_never_two_take_over_what_is_abandoned(self, tmp_path):
        for number in range(60):
            leave_stale(tmp_path / str(number))
        met, done = run_competition(tmp_path, 60)
        assert met == 0
        assert done >= 60

    def test_a_killed_owner_is_followed_at_once(self, tmp_path):
        ready = CONTEXT.Queue()
        owner = CONTEXT.Process(target=hold, args=(tmp_path, ready))
        owner.start()
        assert ready.get(timeout=30)
        with claimed(tmp_path) as ours:
            assert ours is None
        os.kill(owner.pid, signal.SIGKILL)
        owner.join()
        with claimed(tmp_path) as ours:
            assert ours is not None


class TestAges:
    def test_anothers_fresh_claim_holds_and_a_stale_one_does_not(self, tmp_path):
        path = leave_stale(tmp_path)
        os.utime(path)
        with claimed(tmp_path) as ours:
            assert ours is None
        leave_stale(tmp_path)
        with claimed(tmp_path) as ours:
            assert ours is not None

    def test_the_same_name_of_another_machine_is_not_this_one(self, tmp_path):
        """Containers share names and numbers: whose number is unused here may live there."""
        path = leave_stale(tmp_path, host=os.uname().nodename, pid=2**22 + 1)
        os.utime(path)
        with claimed(tmp_path) as ours:
            assert ours is None

    def test_a_wrong_clock_of_this_machine_does_not_matter(self, tmp_path, monkeypatch):
        os.utime(leave_stale(tmp_path))
        monkeypatch.setattr(time, 'time', lambda: 4e9)
        with claimed(tmp_path) as ours:
            assert ours is None

    @pytest.mark.parametrize('content', ['', '{"ho'])
    def test_a_claim_cut_off_holds_until_it_is_old(self, tmp_path, content):
        path = leave_stale(tmp_path)
        path.write_text(content)
        with claimed(tmp_path) as ours:
            assert ours is None
        os.utime(path, (0, 0))
        with claimed(tmp_path) as ours:
            assert ours is not None

    def test_the_owner_keeps_it_fresh_and_hears_of_its_loss(self, tmp_path, monkeypatch):
        monkeypatch.setattr(claim, 'HEARTBEAT', 0.02)
        with claimed(tmp_path) as lost:
            path = tmp_path / 'claim-1.json'
            os.utime(path, (0, 0))
            deadline = time.monotonic() + 10
            while path.stat().st_mtime == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert not lost.is_set()
            (tmp_path / 'claim-2.json').write_text('{}')  # it was asleep for too long
            assert lost.wait(10)

    def test_given_back_it_is_free_even_after_an_error(self, tmp_path):
        with pytest.raises(ValueError, match='oops'), claimed(tmp_path):
            raise ValueError('oops')
        with claimed(tmp_path) as ours:
            assert ours is not None
