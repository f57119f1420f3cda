"""A run that was really trained and tested, on the small rendered dataset; tests alter copies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psa_pose.cli import main
from tests import processes
from tests.conftest import ROOT

CONFIG = ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def options(root: Path, *more: str) -> list[str]:
    """Two epochs, each evaluated."""
    short = 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1'
    return processes.options(root, *short, 'trainer.enable_progress_bar=False', *more)


@pytest.fixture(scope='session')
def trained_run(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs, and a test of the last checkpoint."""
    folder = tmp_path_factory.mktemp('runs') / 'first run'
    given = [str(CONFIG), '--work-dir', str(folder)]
    assert main(['train', *given, *options(demo_root)]) == 0
    checkpoint = str(folder / 'checkpoints/last.ckpt')
    assert main(['test', given[0], checkpoint, *given[1:], *options(demo_root)]) == 0
    return folder


Copy = Callable[..., Path]


@pytest.fixture
def copy_run(trained_run: Path, tmp_path: Path) -> Copy:
    """A copy without what is named, to be altered."""

    def copy(name: str = 'copy', without: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / name
        shutil.copytree(trained_run, folder, ignore=shutil.ignore_patterns('checkpoints'))
        for part in without:
            path = folder / part
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return folder

    return copy


def alter(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))
