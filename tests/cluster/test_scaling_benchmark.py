"""`benchmarks/scaling.py`: its arithmetic, and real processes, over a link of a known speed too."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from scaling import parse, parse_options, parse_rate
from scaling_estimate import exposed
from scaling_rank import length

pytestmark = pytest.mark.cluster

CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
LINK = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which('tc'), reason='namespaces and tc need root'
)
W32 = 'configs/coco/hrnet_w32_256x192.py'


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / 'benchmarks/scaling.py'), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def scaling(*arguments: object, json_file: Path) -> Any:
    job = start(*arguments, '--json', json_file)
    said, _ = job.communicate(timeout=240)
    assert job.returncode == 0, said
    assert not namespaces(job)
    return json.loads(json_file.read_text())


def namespaces(job: subprocess.Popen[str]) -> list[str]:
    """Those that a job has made."""
    if not shutil.which('ip'):
        return []
    found = subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True).stdout.split()
    return [name for name in found if name.startswith(f'scaling{job.pid}')]


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(1, 40))
def test_equal_buckets_leave_the_last_or_what_the_backward_is_too_short_for(
    communication: float, backward: float, buckets: int
) -> None:
    left = max(communication / buckets, communication - backward * (1 - 1 / buckets))
    assert exposed(buckets * 2**20, communication, backward, 1) == pytest.approx(left)


def test_the_last_bucket_has_the_rest() -> None:
    # Four of 25 MiB and one of 10, ready after 10, 20, 30, 40 and 44 s; 0.1 s a MiB, then 1 s.
    assert exposed(110 * 2**20, communication=11, backward=44) == pytest.approx(1)
    assert exposed(110 * 2**20, communication=110, backward=44) == pytest.approx(110 - 34)


def test_an_estimate_by_hand(tmp_path: Path) -> None:
    options = [
        '--estimate',
        '--batch',
        64,
        '--step-ms',
        60,
        '--gpus',
        8,
        16,
        '--link-gbit',
        100,
        10,
    ]
    inside, fast, slow = scaling(W32, '--estimate', *options, json_file=tmp_path / 'rows.json')
    assert inside['link_gbit'] is None and inside['gpus'] == 8  # NVLink, whatever the network
    assert fast['gradients_mb'] == pytest.approx(28_536_113 * 4 / 1e6)
    assert fast['allreduce_ms'] == pytest.approx(17.12, abs=0.01)  # 2 x 15/16 x 114 MB / 12.5 GB/s
    # Buckets of 23 % of the gradients and one of 8.1 %; the last two are sent after 0.919 x 40 ms.
    assert fast['exposed_ms'] == pytest.approx(17.12 * 0.311 - 40 * 0.0813, abs=0.02)
    assert fast['efficiency'] == pytest.approx(60 / 62.07, abs=1e-3)
    assert slow['exposed_ms'] == pytest.approx(171.2 - 40 * 0.7703, abs=0.1)  # from bucket 1 on
    assert slow['bf16_exposed_ms'] == pytest.approx(85.6 - 40 * 0.7703, abs=0.1)
    assert slow['crossover_gbit'] == pytest.approx(100 * 17.12 / 40, abs=0.1)


def test_words() -> None:
    assert parse_options('static_graph=True,bucket_cap_mb=5') == {
        'static_graph': True,
        'bucket_cap_mb': 5,
    }
    assert parse_rate('200mbit') == 25e6
    assert length([(0, 2), (1, 3), (5, 6)]) == 4


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--compare', 'static_grph=True'], "not 'static_grph=True'"),
        (['--compare', 'grad_compression=int8'], "not 'grad_compression=int8'"),
        (['--link', 'fast'], "a rate such as 1gbit or 200mbit, not 'fast'"),
        (['--strong', '--batch', '3'], 'not divisible'),
        (['--estimate', '--step-ms', '-1'], 'invalid positive value'),
    ],
)
def test_bad_options_are_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse([CONFIG, *arguments])
    assert says in capsys.readouterr().err


def test_processes_take_turns(demo_root: Path, tmp_path: Path) -> None:
    one, silent, ddp, compressed = scaling(
        CONFIG,
        *('--ranks', 1, 2, '--steps', 2, '--rounds', 2, '--tries', 1, '--batch', 4),
        *('--compare', 'grad_compression=bf16'),
        *('--cfg-options', f'train_dataloader.dataset.data_root={demo_root}'),
        json_file=tmp_path / 'rows.json',
    )
    assert [row['ranks'] for row in (one, silent, ddp, compressed)] == [1, 2, 2, 2]
    assert one['efficiency'] == [1, 1, 1]
    assert one['communication'] == silent['communication'] == 0
    for row in (ddp, compressed):
        assert 0 < row['communication'] <= 1
        assert 0 < row['data'] < 1
        assert row['samples_per_s'] == pytest.approx(2 * 4 / (row['step_ms'][1] / 1e3))


@LINK
def test_the_formula_is_what_a_known_link_costs(demo_root: Path, tmp_path: Path) -> None:
    *_, ddp, compressed = scaling(
        CONFIG,
        *('--ranks', 2, '--steps', 1, '--rounds', 3, '--tries', 1, '--batch', 4),
        *('--link', '50mbit', '--compare', 'grad_compression=bf16'),
        *('--cfg-options', f'train_dataloader.dataset.data_root={demo_root}'),
        json_file=tmp_path / 'rows.json',
    )
    for row, megabytes in ((ddp, 3.05), (compressed, 1.52)):
        assert row['sent_mb'] == pytest.approx(megabytes, rel=0.15)  # and TCP's headers
        # Other programs' turns are within the times; the link alone cannot be beaten.
        assert 0.6 < row['exposed_ms'][1] / row['predicted_ms'] < 2.5


@LINK
def test_a_job_that_is_stopped_takes_its_nodes_along(demo_root: Path) -> None:
    data = f'train_dataloader.dataset.data_root={demo_root}'
    job = start(CONFIG, '--ranks', 2, '--link', '1gbit', '--cfg-options', data)
    end = time.monotonic() + 60
    while len(namespaces(job)) < 3:
        assert job.poll() is None and time.monotonic() < end, job.communicate()
        time.sleep(0.05)
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == 143
    assert not namespaces(job)
