"""A run that is stopped or damaged goes on, or says why not: real processes, real kills."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from psa_pose.engine.resume import kept, newest_whole
from tests.conftest import ROOT
from tests.processes import CONFIG, KILLS, Training, options

EMA = "custom_hooks=[dict(type='EMAHook', momentum=0.05)]"


@pytest.fixture(scope='module')
def whole(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The run that nobody disturbed; accumulating, so 3 steps in each of 4 epochs."""
    run = Training(tmp_path_factory.mktemp('whole'), *averaged(demo_root))
    assert run.wait() == 0, run.log
    assert list(run.losses) == list(range(1, 13))
    return run


def averaged(root: Path, *more: str) -> list[str]:
    return options(root, EMA, 'optim_wrapper.accumulative_counts=2', *more)


def weights(run: Training) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run.folder / 'last.ckpt', weights_only=True)
    both = {f'current.{k}': v for k, v in checkpoint['current_model_state'].items()}
    return {**checkpoint['state_dict'], **both}


def assert_ends_as(whole: Training, run: Training, *before: Training) -> None:
    losses = {step: loss for part in (*before, run) for step, loss in part.losses.items()}
    assert losses == whole.losses
    expected, found = weights(whole), weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def processes_of(run: Training) -> set[str]:
    """Its workers: those that the kernel says are its children."""
    pid = run.process.pid
    return set(Path(f'/proc/{pid}/task/{pid}/children').read_text().split())


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_at_the_next_step(
    demo_root: Path, tmp_path: Path, whole: Training, number: signal.Signals
) -> None:
    """Within an epoch; the resumed run goes on there, and the curve is the undisturbed one."""
    run = Training(tmp_path, *averaged(demo_root, 'train_dataloader.num_workers=1'))
    run.wait_for('step 4/')
    for pid in (run.process.pid, *map(int, processes_of(run))):  # as a terminal or scheduler does
        os.kill(pid, number)
    sent = time.monotonic()
    assert run.wait() == 128 + number
    assert time.monotonic() - sent < 10
    assert f'{number.name}: saving at the next step' in run.log
    assert 'go on with --resume' in run.log and 'Traceback' not in run.log
    step = torch.load(run.folder / 'last.ckpt', weights_only=True)['global_step']
    assert step == max(run.losses) < 6, 'it did not stop within the epoch, or lost a step'
    resumed = Training(tmp_path, '--resume', *averaged(demo_root))
    assert resumed.wait() == 0, resumed.log
    assert min(resumed.losses) == step + 1
    assert_ends_as(whole, resumed, run)


def test_no_interrupt_is_swallowed(demo_root: Path, tmp_path: Path) -> None:
    """Ctrl-C at any moment from the first step on, each run resumed: none is lost, nor a step."""
    given, draw, last = averaged(demo_root, 'train_cfg.max_epochs=1000'), random.Random(0), 0
    for _ in range(max(6, KILLS * 3 // 5)):
        run = Training(tmp_path, *(['--resume'] if last else []), *given)
        run.wait_for(f'step {last + 1}/')
        time.sleep(draw.uniform(0, 0.5))
        run.send(signal.SIGINT)
        assert run.wait(30) == 130, run.log
        assert list(run.losses) == list(range(last + 1, max(run.losses) + 1))
        last = max(run.losses)


def test_a_second_signal_ends_at_once_and_deletes_nothing(demo_root: Path, tmp_path: Path) -> None:
    # Steps take so long that only the second signal can be what ended it.
    config = tmp_path / 'slow.py'
    config.write_text(
        f"_base_ = ['{CONFIG}']\ncustom_imports = dict(imports=['tests.slow'])\n"
        "custom_hooks = [dict(type='SlowSteps')]\n"
    )
    run = Training(tmp_path, *options(demo_root), config=config)
    run.wait_for('a slow step begins')
    before = sorted(path.name for path in run.folder.iterdir())
    run.send(signal.SIGTERM)
    run.wait_for('saving at the next step')
    run.send(signal.SIGTERM)
    sent = time.monotonic()
    assert run.wait() == 143
    assert time.monotonic() - sent < 3
    assert 'stopped by SIGTERM at once' in run.log
    assert sorted(path.name for path in run.folder.iterdir()) == before == [
        'epoch=1_step=6.ckpt', 'last.ckpt',
    ]  # fmt: skip


def test_killed_within_a_save(demo_root: Path, tmp_path: Path) -> None:
    """`kill -9` at the sight of a half written file, again and again."""
    saving = 'default_hooks.checkpoint=dict(interval=1, by_epoch=False, save_best=None)'
    seen = 0
    for _ in range(6):
        files = kept(tmp_path / 'checkpoints')
        run = Training(tmp_path, *(['--resume'] if files else []), *options(demo_root, saving))
        end = time.monotonic() + 60
        while time.monotonic() < end and run.process.is_alive():
            steps = kept(run.folder) != files
            if steps and any(p.name.startswith('epoch') for p in run.folder.glob('*.partial')):
                break
        run.kill()
        assert 'error' not in run.log, run.log
        seen += bool(list(run.folder.glob('epoch*.partial')))
        assert newest_whole(run.folder)[1] == {}
    assert seen >= 3
    resumed = Training(tmp_path, '--resume', *options(demo_root, saving))
    assert resumed.wait() == 0, resumed.log
    assert not list(resumed.folder.glob('*.partial'))


@pytest.mark.parametrize('how', ['cut off', 'flipped'])
def test_resume_passes_over_a_damaged_checkpoint(
    demo_root: Path, tmp_path: Path, whole: Training, how: str
) -> None:
    run = Training(tmp_path, *averaged(demo_root))
    run.wait_for('epoch 3/4')
    run.kill()
    newest, older = kept(run.folder)
    if how == 'cut off':
        os.truncate(newest, newest.stat().st_size // 2)
    else:
        with newest.open('r+b') as file:
            file.seek(newest.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
    resumed = Training(tmp_path, '--resume', *averaged(demo_root))
    assert resumed.wait() == 0, resumed.log
    wrong = 'it is cut off' if how == 'cut off' else 'its checksum is wrong'
    assert f'damaged   {newest}: {wrong}' in resumed.log
    assert re.search(rf'resume    {re.escape(str(older))}, after step \d+', resumed.log)
    assert (run.folder / f'{newest.name}.damaged').is_file()
    assert_ends_as(whole, resumed, run)


@pytest.mark.parametrize('policy', ['stop', 'continue'])
def test_a_file_that_cannot_be_written(demo_root: Path, tmp_path: Path, policy: str) -> None:
    """The kernel lets files grow to a limit, less than the last checkpoints need."""
    given = averaged(demo_root, f'default_hooks.checkpoint.on_save_error={policy}')
    first = Training(tmp_path, *given)
    first.wait_for('epoch 2/4')
    first.kill()
    good = kept(first.folder)[0]
    limit = good.stat().st_size // 2
    code = (
        f'import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); '
        f'from psa_pose.cli import main; sys.exit(main(sys.argv[1:]))'
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = ['train', str(CONFIG), '--work-dir', str(tmp_path), '--resume', *given]
    done = subprocess.run(
        [sys.executable, '-c', code, *command], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert 'cannot write' in done.stderr and 'File too large' in done.stderr
    assert 'Traceback' not in done.stderr
    assert done.returncode == (1 if policy == 'stop' else 0)
    assert ('the last good checkpoint is' in done.stderr) == (policy == 'stop')
    assert ('OKS-AP' in done.stdout) == (policy == 'continue')
    assert kept(first.folder) == [good]
    assert newest_whole(first.folder) == (good, {})
    assert not list(first.folder.glob('*.partial'))


def test_two_ranks_stop_at_the_same_step(demo_root: Path, tmp_path: Path) -> None:
    """One of them alone gets the signal, and not the one that writes."""
    given = options(
        demo_root, 'train_dataloader.batch_size=4', 'train_cfg.max_epochs=200',
        'val_dataloader.batch_size=4',
    )  # fmt: skip
    port = str(29500 + os.getpid() % 2000)
    places = [tmp_path / 'logs0', tmp_path / 'logs1']
    ranks = [
        Training(
            place, *given, '--work-dir', str(tmp_path / 'run'), RANK=str(rank), WORLD_SIZE='2',
            LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=port,
        )
        for rank, place in enumerate(places)
    ]  # fmt: skip
    try:
        ranks[0].wait_for('step 8/', timeout=90)
        ranks[1].send(signal.SIGTERM)
        assert [rank.wait(60) for rank in ranks] == [143, 143], ranks[0].log
    finally:
        for rank in ranks:
            rank.kill()
    folder = tmp_path / 'run/checkpoints'
    path, _ = newest_whole(folder)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint['global_step'] == max(ranks[0].losses) >= 8
    assert sorted(p.name for p in folder.iterdir())[-1] == 'last.ckpt'
