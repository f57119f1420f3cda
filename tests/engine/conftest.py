"""Small training runs in this process, on the rendered dataset."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from psa_pose.engine.config import load_config
from psa_pose.engine.train import train
from tests.conftest import ROOT

CONFIG = ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py'
Configure = Callable[..., Config]


@pytest.fixture
def configure(demo_root: Path, tmp_path: Path, monkeypatch: Any) -> Configure:
    """The demo's config with options, for the small dataset and a run below `tmp_path`."""
    monkeypatch.chdir(ROOT)

    def make(*options: str) -> Config:
        cfg = load_config(
            CONFIG,
            [
                f'train_dataloader.dataset.data_root={demo_root}',
                f'val_dataloader.dataset.data_root={demo_root}',
                'train_dataloader.batch_size=8',
                'train_dataloader.num_workers=0',
                'val_dataloader.num_workers=0',
                'default_hooks.logger.interval=1',
                'default_hooks.visualization.persons=2',
                'train_cfg.val_interval=100',
                'trainer.num_sanity_val_steps=0',
                'trainer.limit_val_batches=1',
                'trainer.enable_progress_bar=False',
                *options,
            ],
        )
        cfg.work_dir = str(tmp_path / 'run')
        return cfg

    return make


class Run:
    """Trains with options; `log` is what the last run printed."""

    def __init__(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        self.configure, self.capsys, self.log = configure, capsys, ''

    def __call__(self, *options: str, resume: bool = False) -> list[tuple[int, float, float]]:
        """The printed (step, loss, rate) of every step."""
        train(self.configure(*options), resume=resume)
        self.log = self.capsys.readouterr().out
        lines = re.findall(r'step (\d+)/\d+  loss (\S+)  lr (\S+)', self.log)
        return [(int(step), float(loss), float(lr)) for step, loss, lr in lines]


@pytest.fixture
def run(configure: Configure, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(configure, capsys)


def last_of(tmp_path: Path) -> dict[str, Any]:
    return torch.load(tmp_path / 'run/checkpoints/last.ckpt', weights_only=True)


def forget(tmp_path: Path) -> None:
    """Remove a run's checkpoints, so that another may take its place."""
    for path in (tmp_path / 'run/checkpoints').iterdir():
        path.unlink()
