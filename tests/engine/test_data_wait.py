"""The time that a device waits for data: seen from the host, and on a GPU from its own clock."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from psa_pose.engine import data_wait
from psa_pose.engine.data_wait import DataWait

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


class Gpu:
    """A GPU that works at one thing after the other while the host goes on."""

    def __init__(self, monkeypatch: Any) -> None:
        self.now = self.busy_until = 0.0
        monkeypatch.setattr(data_wait, 'time', SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(torch.cuda, 'Event', lambda enable_timing: Event(self))

    def queue(self, seconds: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + seconds


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def record(self) -> None:
        self.at = max(self.gpu.now, self.gpu.busy_until)

    def query(self) -> bool:
        return self.gpu.now >= self.at

    def elapsed_time(self, later: 'Event') -> float:
        assert later.query(), 'CUDA refuses it'
        return (later.at - self.at) * 1e3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def steps(gpu: Gpu, wait: DataWait, device: torch.device, launch: float, work: float) -> float:
    """The share of time that was waiting for batches which take 50 ms to come, of 100 steps."""
    start = gpu.now
    for _ in range(100):
        wait.begin(device)
        gpu.now += 0.05
        wait.end()
        gpu.queue(work)
        gpu.now += launch
    gpu.now = max(gpu.now, gpu.busy_until)  # the loss is read
    return wait.take() / (gpu.now - start)


def test_a_gpu_with_a_queue_of_work_does_not_wait_for_data(gpu: Gpu) -> None:
    wait = DataWait()
    assert steps(gpu, wait, CUDA, launch=0.02, work=0.08) < 0.01  # the first batch's
    assert steps(gpu, DataWait(), CPU, launch=0.02, work=0.0) == pytest.approx(5 / 7)
    assert wait.take() == 0


def test_one_that_starves_waits_for_the_rest(gpu: Gpu) -> None:
    share = steps(gpu, DataWait(), CUDA, launch=0.02, work=0.03)
    assert share == pytest.approx(4 / 7, rel=0.02)  # of 70 ms a step 30 are work


def test_events_do_not_pile_up(gpu: Gpu) -> None:
    wait = DataWait()
    steps(gpu, wait, CUDA, launch=0.02, work=0.03)
    for _ in range(3):
        wait.begin(CUDA)
        wait.end()
    assert len(wait._events) <= 3


def test_of_two_beginnings_the_later_counts(gpu: Gpu) -> None:
    wait = DataWait()
    for device in (CPU, CUDA):
        wait.begin(device)
        gpu.now += 5  # an evaluation
        wait.begin(device)
        gpu.now += 1
        wait.end()
        assert wait.take() == pytest.approx(1)
