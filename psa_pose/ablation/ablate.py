"""A study from its file to its tables."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from psa_pose.ablation.cell import FAILED, begun, finished, run_cell
from psa_pose.ablation.claim import claimed
from psa_pose.ablation.plot import accuracy_against_cost
from psa_pose.ablation.provenance import differences, mixed_error, provenance
from psa_pose.ablation.runner import Runner, devices, leave_with_parent
from psa_pose.ablation.study import Cell, Study, read_study
from psa_pose.ablation.summary import Summary, summarise
from psa_pose.ablation.tables import as_csv, as_html, as_json, as_markdown, as_text
from psa_pose.ablation.timing import measure_steps, step_times, steps_in
from psa_pose.engine import build
from psa_pose.engine.signals import LAUNCHED
from psa_pose.errors import ConfigError, ResultError, nearest
from psa_pose.files import write_text

_WIDE = 400  # characters, more than most tables take: a file's lines need not be broken


def ablate(
    file: str | Path,
    work_dir: str | Path | None = None,
    *,
    jobs: int | None = None,
    table_only: bool = False,
    allow_mixed: bool = False,
) -> int:
    """Run what is not finished of a study, and write its tables.

    Args:
        file: of the study, see `read_study`.
        work_dir: for cells and tables, instead of the study's own.
        jobs: cells side by side: GPUs (default: all), or on a processor (default: 1).
        table_only: run nothing.
        allow_mixed: take cells of other code, data or config as well, and say so.

    Returns:
        The exit status: 1 where a cell failed, 128 and more where a signal ended it.

    Raises:
        ConfigError: see `read_study`; no evaluator gives the study's metric; `jobs` is below 1.
        ResultError: a cell that is finished or begun is not of this study as it is now.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f'--jobs: expected a number above 0, got {jobs}')
    study = read_study(file)
    folder = Path(work_dir or study.work_dir)
    if not table_only:
        _check_metrics(study)
        measure_steps(study, folder)
    cells = _cells(study, folder)
    _mixed(cells, folder, allow_mixed)  # before hours are spent
    if not table_only:
        left = [cell for cell in cells if not finished(folder / cell.name)]
        print(f'study     {study.title}: {len(cells)} cells, {len(left)} to train, in {folder}')
        runner = Runner(cells, folder, _command(study, folder, allow_mixed))
        runner.run(devices(jobs))
        if runner.stopped is not None:
            print('stopped   the same command goes on', file=sys.stderr)
            return 128 + runner.stopped
    mixed = _mixed(cells, folder, allow_mixed)  # others may have finished some
    _write(summarise(study, folder, cells, step_times(study, folder), mixed), folder)
    failed = [cell.name for cell in cells if (folder / cell.name / FAILED).exists()]
    for name in failed:
        print(f'failed    {name}: see {folder / name / "log.txt"}', file=sys.stderr)
    return 1 if failed else 0


def ablate_cell(
    file: str | Path, work_dir: str | Path | None, name: str, allow_mixed: bool = False
) -> int:
    """Train one cell of a study in this process, unless it is finished.

    Args:
        file: of the study.
        work_dir: see `ablate`.
        name: of the cell, such as 'psa_parallel/seed0'.
        allow_mixed: see `ablate`.

    Returns:
        The exit status.

    Raises:
        ConfigError: the study has no such cell.
        ResultError: another process works at it; or see `ablate`.
    """
    leave_with_parent()
    study = read_study(file)
    folder = Path(work_dir or study.work_dir)
    cells = {cell.name: cell for cell in _cells(study, folder)}
    if name not in cells:
        raise ConfigError(f"study {file}: no cell '{name}'; {nearest(name, cells)}")
    # A runner has claimed it; by hand it is claimed here.
    claim = nullcontext(True) if LAUNCHED in os.environ else claimed(folder / name)
    with claim as ours:
        if not ours:
            raise ResultError(f'another process works at {folder / name}')
        if finished(folder / name):
            print(f'finished  {folder / name}')
        else:
            run_cell(cells[name], folder / name, allow_mixed)
    return 0


def _cells(study: Study, folder: Path) -> list[Cell]:
    kind, amount = study.budget
    return study.cells(steps_in(amount, study, folder) if kind == 'minutes' else None)


def _check_metrics(study: Study) -> None:
    """Before anything is trained: it is asked for numbers that the evaluator gives."""
    cfg = study.configs[study.baseline]
    dataset = build.build_dataset(cfg, 'val_dataloader')
    names = build.build_metric(cfg, 'val_evaluator', dataset).names
    for key, wanted in (('metric', (study.metric,)), ('also', study.also)):
        for name in wanted:
            if name not in names:
                where = f'study {study.file}: {key}'
                raise ConfigError(f"{where}: no evaluator gives '{name}'; {nearest(name, names)}")


def _command(study: Study, folder: Path, allow_mixed: bool) -> list[str]:
    """What runs a cell, without its name."""
    main = [sys.executable, '-m', 'psa_pose.cli', 'ablate', str(study.file)]
    more = ['--allow-mixed'] if allow_mixed else []
    return [*main, '--work-dir', str(folder), *more, '--cell']


def _mixed(cells: Sequence[Cell], folder: Path, allowed: bool) -> dict[str, list[str]]:
    """By cell what of its provenance is not as it is here; refused unless allowed."""
    found = {}
    data: dict[str, dict[str, str]] = {}
    for cell in cells:
        if (origin := begun(folder / cell.name)) is None:
            continue
        lines = differences(origin, provenance(cell, data))
        if lines and not allowed:
            what = 'finished' if finished(folder / cell.name) else 'begun'
            raise mixed_error(cell.name, folder / cell.name, lines, what)
        if lines:
            found[cell.name] = lines
    return found


def _write(summary: Summary, folder: Path) -> None:
    lines = (*summary.sentences, '', *summary.about)
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    table = as_text(summary)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    paper = Console(width=_WIDE, record=True, file=io.StringIO())
    paper.print(table)
    write_text(folder / 'table.txt', '\n'.join([paper.export_text().rstrip(), *lines, '']))
    plot = accuracy_against_cost(summary)
    write_text(folder / 'plot.svg', plot)
    write_text(folder / 'table.md', as_markdown(summary, 'plot.svg'))
    write_text(folder / 'table.csv', as_csv(summary))
    write_text(folder / 'table.html', as_html(summary, plot))
    write_text(folder / 'table.json', as_json(summary))
    print(f'tables    {folder}/table.txt, .md, .csv, .html, .json; plot.svg')
