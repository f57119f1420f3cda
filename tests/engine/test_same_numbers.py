"""One process, two, three or four: the same numbers, whoever computes which part of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.launching import Job, free_port
from tests.engine.ranked import Trained, assert_same_losses, difference, train_on
from tests.engine.witness import witness, witnessed
from tests.processes import CONFIG

WEIGHTS = 5e-5
"""Relative difference after 24 steps, in which rounding grows."""
EPOCHS = 'train_cfg.max_epochs=4'
STEPWISE = [
    EPOCHS,
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=5',
]


@pytest.fixture(scope='module')
def alone(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One process, 24 steps."""
    return train_on(1, demo_root, tmp_path_factory.mktemp('alone') / 'run', EPOCHS)


@pytest.mark.parametrize('ranks', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_losses_and_weights(demo_root: Path, tmp_path: Path, alone: Trained, ranks: int) -> None:
    found = train_on(ranks, demo_root, tmp_path / 'run', EPOCHS)
    assert len(found.losses) == 24
    assert_same_losses(found.losses, alone.losses)
    assert difference(found.checkpoint['state_dict'], alone.checkpoint['state_dict']) < WEIGHTS


@pytest.mark.slow
def test_losses_and_weights_with_accumulation(demo_root: Path, tmp_path: Path) -> None:
    """Also of the last window of an epoch, where fewer batches are left."""
    more = ['train_cfg.max_epochs=6', 'optim_wrapper.accumulative_counts=4']
    one, two = (train_on(n, demo_root, tmp_path / f'run{n}', *more) for n in (1, 2))
    assert len(two.losses) == 12
    assert_same_losses(two.losses, one.losses)
    assert difference(two.checkpoint['state_dict'], one.checkpoint['state_dict']) < WEIGHTS


def test_another_number_of_ranks_goes_on_with_the_same_data(
    demo_root: Path, tmp_path: Path, alone: Trained
) -> None:
    """Within epochs: 1, 2, 4 and again 1 process, in place of one that was never stopped."""
    run = Trained(tmp_path / 'run')
    for leg, ranks in enumerate((1, 2, 4, 1), 1):
        # One step more than is kept, as of a job that was killed.
        end = [f'trainer.max_steps={5 * leg + 1}'] if leg < 4 else []
        save = f'default_hooks.checkpoint.save_last={leg == 4}'
        train_on(ranks, demo_root, tmp_path / 'run', *STEPWISE, *end, save, resume=leg > 1)
        if leg < 4:
            assert (run.folder / 'last.ckpt').resolve().name.endswith(f'step={5 * leg}.ckpt')
    assert_same_losses(run.losses, alone.losses)
    assert difference(run.checkpoint['state_dict'], alone.checkpoint['state_dict']) < WEIGHTS


def test_ranks_draw_different_numbers_and_the_same_ones_again(
    demo_root: Path, tmp_path: Path
) -> None:
    """Dropout differs between ranks; a person's augmentation is its own wherever it is made."""
    dropout = "model = dict(backbone=dict(attention=dict(_delete_=True, type='WitnessedDropout')))"

    def run(ranks: int, name: str) -> tuple[dict[int, float], list[list[dict[str, Any]]]]:
        config = witness(tmp_path / name, dropout)
        epochs = 'train_cfg.max_epochs=2'
        trained = train_on(ranks, demo_root, tmp_path / f'{name}_run', epochs, config=config)
        return trained.losses, witnessed(tmp_path / name)

    losses, ranks = run(2, 'first')
    assert run(2, 'second') == (losses, ranks)
    drawn = [step['drawn'] for rank in ranks for step in rank]
    assert len(set(drawn)) == len(drawn) == 24
    _, (alone,) = run(1, 'alone')
    for step, *parts in zip(alone, *ranks, strict=True):
        crops: dict[str, int] = {}
        for part in parts:
            assert len(part['crops']) == 4 and not crops.keys() & part['crops'].keys()
            crops |= part['crops']
        assert crops == step['crops']
    first, second = alone[:6], alone[6:]
    assert len({person for step in first for person in step['crops']}) == 48  # none twice
    again = [(p, c) for step in second for p, c in step['crops'].items()]
    assert not set(again) & {(p, c) for step in first for p, c in step['crops'].items()}


EVALUATION = [
    'val_dataloader.num_workers=0',
    'model.test_cfg.flip_test=True',
    "val_evaluator=[dict(type='CocoMetric'), dict(type='EPE')]",
]


@pytest.mark.parametrize(('ranks', 'batch'), [(2, 5), (3, 3), (4, 2)])
def test_evaluation_writes_the_very_same_files(
    demo_root: Path, tmp_path: Path, alone: Trained, ranks: int, batch: int
) -> None:
    """12 persons in three, four and six batches: some ranks have one more than others."""
    one, several = (
        [file.read_bytes() for file in evaluated(n, demo_root, tmp_path, alone, batch)]
        for n in (1, ranks)
    )
    assert several == one
    metrics, results = (json.loads(content) for content in one)
    assert metrics['EPE'] > 0 and len(results) == 12


def evaluated(ranks: int, root: Path, folder: Path, run: Trained, batch: int) -> list[Path]:
    files = [folder / f'{name}{ranks}.json' for name in ('metrics', 'results')]
    words = [str(CONFIG), str(run.folder / 'last.ckpt'), '--metrics', str(files[0])]
    words += ['--out', str(files[1]), '--cfg-options', *EVALUATION]
    words += [f'val_dataloader.batch_size={batch}', f'val_dataloader.dataset.data_root={root}']
    port = free_port()
    with Job(folder / f'logs{ranks}') as job:
        for rank in range(ranks):
            job.rank(rank, ranks, *words, port=port, command='test')
        assert set(job.wait(100)) == {0}, job.log
    return files
