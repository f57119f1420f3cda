"""`tools/benchmark.py`: real measurements, and the verdict that follows from them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from psa_pose.engine.benchmark import _bound
from tests.conftest import RunTool
from tests.tools.test_train_and_test import CONFIG, options

FOUND = {
    'batch': 32,
    'stages': {'LoadImage': 500.0, 'TopdownAffine': 150.0, 'rest': 50.0},
    'workers': 2000.0,
    'step': 1000.0,
    'num_workers': 4,
    'cores': 16,
    'transfer_ms': 0.5,
}


@pytest.mark.parametrize(
    ('changes', 'bound', 'says'),
    [
        ({}, 'compute', 'a step takes 32 ms, and data comes 2.0 times as fast'),
        ({'transfer_ms': None}, 'compute', 'the network'),
        ({'transfer_ms': 9.0}, 'transfer', '9.0 ms a batch beside a step of 32.0 ms'),
        ({'step': 5000.0}, 'workers', 'about 10 would do .*now 4; 16 cores'),
        ({'step': 5000.0, 'cores': 4}, 'decode', 'LoadImage is 71% of it'),
        (
            {'step': 5000.0, 'cores': 4, 'stages': {'LoadImage': 1.0, 'TopdownAffine': 3.0}},
            'data',
            'TopdownAffine is 75% of it',
        ),
        ({'step': 5000.0, 'num_workers': 0, 'workers': 700.0}, 'workers', 'about 8 would do'),
    ],
)
def test_the_verdict(changes: dict[str, Any], bound: str, says: str) -> None:
    found, text = _bound({**FOUND, **changes})
    assert found == bound
    assert re.search(says, text)


@pytest.mark.parametrize('workers', [0, 1])
def test_measures_and_leaves_nothing_behind(
    run_tool: RunTool, demo_root: Path, tmp_path: Path, workers: int
) -> None:
    work_dir, numbers = tmp_path / 'run', tmp_path / 'numbers.json'
    done = run_tool(
        'benchmark',
        CONFIG,
        *('--seconds', 3, '--json', numbers, '--work-dir', work_dir),
        *options(demo_root),
        f'train_dataloader.num_workers={workers}',
    )
    assert done.returncode == 0, done.stderr
    assert 'Warning' not in done.stderr
    found = json.loads(numbers.read_text())
    assert set(found['stages']) == {'LoadImage', 'RandomBBoxTransform', 'TopdownAffine', 'rest'}
    assert all(value > 0 for value in found['stages'].values())
    # The stages are those of the rate beside them.
    assert sum(found['stages'].values()) == pytest.approx(1e6 / found['one_process'])
    assert found['num_workers'] == workers
    assert found['step'] > 0 and 0 <= found['waiting'] < 1
    assert found['transfer_ms'] is None  # no GPU was used
    # A tiny network on a CPU is slower than its data.
    assert found['bound'] == 'compute'
    assert found['training'] < found['workers']
    assert 'bounded by the network' in done.stdout
    assert not work_dir.exists()


def test_a_misspelt_option_is_named(run_tool: RunTool, demo_root: Path) -> None:
    done = run_tool(
        'benchmark', CONFIG, *options(demo_root), 'train_dataloader.dataset.type=CocoStyleDatset'
    )
    assert done.returncode == 1
    assert 'CocoStyleDataset' in done.stderr
    assert 'Traceback' not in done.stderr
