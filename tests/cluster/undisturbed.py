"""The run that nobody disturbed, and whether others end as it does."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.cluster.launching import Job, launch
from tests.processes import options


@dataclass(frozen=True)
class Undisturbed:
    """What is left of a run.

    Attributes:
        curve: loss and rate by step, as printed.
        weights: by name, at its end.
    """

    curve: dict[int, str]
    weights: dict[str, torch.Tensor]

    def check(self, curve: dict[int, str], work_dir: Path) -> None:
        """Whether a run of these steps, which may have been interrupted, is the same."""
        assert curve == self.curve
        found = last_of(work_dir)['state_dict']
        assert all(torch.equal(value, found[name]) for name, value in self.weights.items())


def undisturbed(root: Path, folder: Path, *more: str) -> Undisturbed:
    """Train two ranks: four epochs of three steps."""
    with Job(folder / 'logs') as job:
        launch(job, folder / 'w', *options(root, *more))
        assert job.wait(120) == [0, 0], job.log
        curve = dict(steps(job))
    assert list(curve) == list(range(1, 13))
    return Undisturbed(curve, last_of(folder / 'w')['state_dict'])


def steps(*jobs: Job) -> list[tuple[int, str]]:
    """All printed steps with loss and rate, in order."""
    line = r'step (\d+)/\d+  loss (\S+  lr \S+)'
    return [(int(n), text) for job in jobs for n, text in re.findall(line, job.log)]


def last_of(work_dir: Path) -> dict:
    return torch.load(work_dir / 'checkpoints/last.ckpt', weights_only=True)
