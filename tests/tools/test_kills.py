"""A run that is killed again and again, anywhere, ends as one that is not.

`PSA_POSE_KILLS=100` asks for more kills than the ten that `make slow` has time for.
"""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import KILLS, Training, options

SAVING = "default_hooks.checkpoint=dict(interval=1, by_epoch=False, save_best='EPE', rule='min')"
METRICS = "val_evaluator=[dict(type='CocoMetric'), dict(type='EPE')]"  # an AP is 0 after 12 steps
EMA = "custom_hooks=[dict(type='EMAHook', momentum=0.05)]"


def result(folder: Path) -> dict[str, Any]:
    return torch.load(folder / 'last.ckpt', weights_only=True)


def assert_same(a: Any, b: Any, at: str = '') -> None:
    assert type(a) is type(b), at
    if isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            assert_same(a[key], b[key], f'{at}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), at
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f'{at}.{i}')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), at
    else:
        assert a == b, at


@pytest.mark.slow
def test_random_kills(demo_root: Path, tmp_path: Path) -> None:
    """Kills that fall into every part of a run, a third of whose time is saving."""
    given = options(demo_root, SAVING, METRICS, EMA, 'optim_wrapper.accumulative_counts=2')
    started = time.monotonic()
    assert Training(tmp_path / 'first', *given, '--dry-run').wait() == 0  # waits for the imports
    begun = time.monotonic()
    whole = Training(tmp_path / 'whole', *given)
    whole.wait_for('step 1/')
    start = time.monotonic() - begun
    assert whole.wait() == 0, whole.log
    steps = time.monotonic() - begun - start
    expected = result(whole.folder)
    names = sorted(path.name for path in whole.folder.iterdir())
    assert [name[:5] for name in names] == ['best_', 'epoch', 'epoch', 'last.']

    draw = random.Random(0)
    kills = resumes = partials = 0
    for number in range(KILLS):
        run_dir, losses = tmp_path / f'run{number}', {}
        while True:
            kept = list((run_dir / 'checkpoints').glob('epoch=*.ckpt'))
            run = Training(run_dir, *(['--resume'] if kept else []), *given)
            run.process.join(
                start * draw.uniform(0.7, 1) + steps * draw.uniform(0, 0.4)
                if kills < KILLS
                else None
            )
            ended = not run.process.is_alive()
            run.kill()
            losses.update(run.losses)
            if ended:
                assert run.process.exitcode == 0, run.log
                break
            kills += 1
            resumes += bool(kept)
            partials += bool(list((run_dir / 'checkpoints').glob('*.partial')))
            assert 'error' not in run.log, run.log
        assert losses == whole.losses
        for part in ('state_dict', 'current_model_state', 'optimizer_states', 'lr_schedulers'):
            assert_same(result(run.folder)[part], expected[part], part)
        assert result(run.folder)['meta'] == expected['meta']
        assert sorted(path.name for path in run.folder.iterdir()) == names
        if kills >= KILLS:
            break
    took = time.monotonic() - started
    print(
        f'{kills} kills ({partials} within a save), {resumes} of resumed runs, '
        f'{number + 1} runs, {took:.0f} s; {expected["meta"]["metrics"]}'
    )
