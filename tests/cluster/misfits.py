"""What goes wrong on one rank of a run, at a step: a hook and a transform for configs of tests."""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L

from psa_pose.datasets.transforms import LoadImage
from psa_pose.registry import HOOKS, TRANSFORMS
from tests.processes import CONFIG


@HOOKS.register_module(force=True)
class Misfit(L.Callback):
    """Slows all ranks down a little, and makes trouble on one of them.

    Args:
        rank: which.
        step: after how many it does.
        what: 'raise' or 'hang'; or 'build', to hang before training.
        seconds: that each step takes more, on every rank.
    """

    def __init__(
        self, rank: int = 0, step: int = 10**9, what: str = 'raise', seconds: float = 0
    ) -> None:
        self.rank, self.step, self.what, self.seconds = rank, step, what, seconds
        if what == 'build' and os.environ['RANK'] == str(rank):
            print('the hook is being built', flush=True)
            time.sleep(1000)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        time.sleep(self.seconds)
        if trainer.global_rank == self.rank and trainer.global_step >= self.step:
            if self.what == 'raise':
                raise RuntimeError('a mistake of this hook')
            time.sleep(1000)


@TRANSFORMS.register_module(force=True)
class StuckImage(LoadImage):
    """The images of one rank's epoch do not come, as from a file system that is gone."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if os.environ['RANK'] == '1' and results.get('epoch'):
            time.sleep(1000)
        return super().transform(results)


def misfit(folder: Path, **options: Any) -> Path:
    """A config with the hook."""
    path = folder / 'misfit.py'
    path.write_text(
        f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['tests.cluster.misfits'])\n"
        f"custom_hooks = [dict(type='Misfit', **{options})]\n"
    )
    return path
