"""Who is dead, from beats and a clock of the test's own."""

import multiprocessing
import os
import signal
import time

import pytest

from psa_pose.engine.ranks.judge import ABSENT, ALARMED, ENDED, FAILED, SHOWN, Beat, Judge


def beat(number=1, where='in step 3', *, pid=7, host='far', seconds=0):
    return Beat(number, pid, host, where, seconds)


@pytest.fixture
def judge():
    return Judge(0, 'here', patience=60)


def test_a_beat_is_read_as_it_was_written():
    for one in (beat(12, 'waiting for data after step 3', seconds=70), ABSENT, ENDED):
        assert Beat.read(str(one)) == one


def test_silence_of_the_given_length(judge):
    beats = [beat(1), beat(1), beat(1)]
    assert judge.judge(beats, '', 100) == ('', [])
    assert judge.judge([beat(50), beat(50), beat(1)], '', 159) == ('', [])
    text, dead = judge.judge([beat(51), beat(51), beat(1)], '', 160)
    assert dead == [2]
    assert text.startswith(
        'rank 2 (far, pid 7) has not been heard of for 60 s: killed, or the node'
    )


def test_several_at_once(judge):
    judge.judge([beat(1)] * 4, '', 0)
    text, dead = judge.judge([beat(2), beat(2), beat(1), beat(1)], '', 61)
    assert dead == [2, 3]
    assert text.startswith('rank 2 (far, pid 7), rank 3 (far, pid 7) have not been heard of')


@pytest.mark.parametrize('gone', [ABSENT, ENDED])
def test_who_ended_or_has_not_come_is_not_dead(judge, gone):
    judge.judge([beat(1), gone], '', 0)
    assert judge.judge([beat(2), gone], '', 1000) == ('', [])


def test_itself_it_does_not_judge(judge):
    judge.judge([beat(1), beat(1)], '', 0)
    assert judge.judge([beat(1), beat(2)], '', 1000) == ('', [])


def test_after_a_sleep_silence_counts_from_now(judge):
    judge.judge([beat(1), beat(1)], '', 0)
    judge.forget()
    assert judge.judge([beat(2), beat(1)], '', 1000) == ('', [])
    assert judge.judge([beat(3), beat(1)], '', 1059) == ('', [])
    assert judge.judge([beat(4), beat(1)], '', 1060)[1] == [1]


def test_an_alarm_shortens_the_patience(judge):
    judge.judge([beat(1), beat(1)], '', 0)
    assert judge.judge([beat(2), beat(1)], 'lost', 5) == ('', [])
    text, dead = judge.judge([beat(3), beat(1)], 'lost', 5.1 + ALARMED)
    assert dead == [1] and 'for 15 s' in text


def test_who_is_waited_for(judge):
    beats = [beat(1, FAILED), beat(1, 'waiting for data', seconds=40), beat(1, FAILED)]
    judge.judge(beats, 'timed out', 0)
    text, dead = judge.judge([b._replace(number=2) for b in beats], 'timed out', 0.1 + ALARMED)
    assert dead == []
    assert 'in vain: rank 1 (far, pid 7) is waiting for data, for 40 s (timed out)' in text


def test_of_many_some_are_shown(judge):
    beats = [beat(1, FAILED), *[beat(1)] * (SHOWN + 3)]
    judge.judge(beats, 'timed out', 0)
    text, _ = judge.judge([b._replace(number=2) for b in beats], 'timed out', 0.1 + ALARMED)
    assert text.count('in step 3') == SHOWN and 'and 3 more' in text


def test_all_were_left_alone(judge):
    judge.judge([beat(1, FAILED)] * 2, 'NCCL error', 0)
    text, _ = judge.judge([beat(2, FAILED)] * 2, 'NCCL error', 0.1 + ALARMED)
    assert text == 'a collective operation failed on all ranks (NCCL error)'


def test_only_rank_0_says_who_is_waited_for():
    judge = Judge(1, 'here', patience=60)
    judge.judge([beat(1)], 'timed out', 0)
    assert judge.judge([beat(2)], 'timed out', 0.1 + ALARMED) == ('', [])


class TestOnThisNode:
    """A process that is no more is known at the second look, whatever the others do."""

    def process(self):
        process = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
        process.start()
        return process

    def test_a_living_one(self, judge):
        assert judge.judge([beat(1), beat(1, pid=os.getpid(), host='here')], 'lost', 0) == ('', [])

    @pytest.mark.parametrize('waited', [False, True])
    def test_a_killed_one(self, judge, waited):
        process = self.process()
        beats = [beat(1), beat(1, pid=process.pid, host='here')]
        os.kill(process.pid, signal.SIGKILL)
        if waited:
            process.join()
        else:  # nobody has asked for its status
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert judge.judge(beats, '', 0) == ('', [])
        text, dead = judge.judge(beats, '', 1)
        process.join()
        assert dead == [1]
        assert text == f'rank 1 (here, pid {process.pid}) died: killed, or crashed in compiled code'

    def test_one_of_another_node_with_that_number(self, judge):
        process = self.process()
        process.kill()
        process.join()
        beats = [beat(1), beat(1, pid=process.pid, host='far')]
        assert judge.judge(beats, 'lost', 0) == ('', [])

    def test_one_that_said_so_in_between(self, judge):
        process = self.process()
        process.kill()
        process.join()
        assert judge.judge([beat(1), beat(1, pid=process.pid, host='here')], '', 0) == ('', [])
        assert judge.judge([beat(2), ENDED], '', 1) == ('', [])

    def test_one_of_another_container_with_this_host_name(self, judge):
        process = self.process()
        process.kill()
        process.join()
        elsewhere = beat(1, pid=process.pid, host='here')._replace(space='pid:[7]')
        for now in range(3):
            assert judge.judge([beat(now), elsewhere], 'lost', now) == ('', [])
