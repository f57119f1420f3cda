"""`psa-pose check`: a config, its files, its data and this machine, without training."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psa_pose.engine.check.findings import LEVELS, Findings, as_json
from psa_pose.engine.check.look import look
from psa_pose.engine.check.machine import Machine, Needs, check_machine, summary
from psa_pose.files import write_json


def check(
    config: str,
    options: Sequence[str] = (),
    work_dir: str | None = None,
    json_file: Path | None = None,
    strict: bool = False,
) -> int:
    """Print what is found, and write the same to a file.

    Args:
        config: name of a config file.
        options: `key=value`, laid over it.
        work_dir: of the run; see the command line.
        json_file: `{"config": ..., "machine": {...}, "findings": [...]}` goes here.
        strict: whether warnings fail as well.

    Returns:
        The exit status: 1 where a run would stop, else 0.
    """
    findings, machine = examine(config, options, work_dir)
    print(f'config   {config}\nmachine  {summary(machine)}')
    for finding in findings:
        print(finding)
    errors, warnings, notes = (findings.at(level) for level in LEVELS)
    counts = f'{_count(errors, "error")}, {_count(warnings, "warning")}, {_count(notes, "note")}'
    print(f'found    {counts}: {"a run would stop" if errors else "a run can start"}')
    if json_file:
        content = {'config': config, 'machine': asdict(machine), 'findings': as_json(findings)}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, content)
    return int(errors > 0 or (strict and warnings > 0))


def examine(
    config: str, options: Sequence[str] = (), work_dir: str | None = None
) -> tuple[Findings, Machine]:
    """All that is to be said of a config here, and what the machine is."""
    findings = Findings()
    folder = work_dir or f'work_dirs/{Path(config).stem}'
    machine, needs = look(Path(folder)), Needs()
    if not set(machine.broken) - {'torchvision'}:  # else the package itself cannot be imported
        needs = _examine(config, options, work_dir, machine, findings)
    check_machine(machine, needs, findings)
    return findings, machine


def _examine(
    name: str, options: Sequence[str], work_dir: str | None, machine: Machine, findings: Findings
) -> Needs:
    from psa_pose.engine.check.config import attempt, check_config
    from psa_pose.engine.check.data import check_data
    from psa_pose.engine.check.files import check_work_dir
    from psa_pose.engine.check.model import check_model, check_trainer
    from psa_pose.engine.check.needs import needs_of
    from psa_pose.engine.check.shapes import check_shapes
    from psa_pose.engine.config import load_config

    cfg: Any = attempt(lambda: load_config(name, options), findings)
    if cfg is None:
        return Needs()
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(name).stem}'
    if not check_shapes(cfg, findings):
        return Needs()
    check_config(cfg, findings)
    data_findings = Findings()  # told after the model's
    splits = check_data(cfg, data_findings)
    train, val = splits.get('train_dataloader'), splits.get('val_dataloader')
    check_model(cfg, train.info if train else None, findings)
    check_trainer(cfg, val.metric if val else None, findings)
    check_work_dir(cfg, findings)
    findings.extend(finding for finding in data_findings if finding not in findings)
    return needs_of(cfg, splits, bool(machine.gpus))


def _count(number: int, what: str) -> str:
    return f'{number} {what}{"" if number == 1 else "s"}'
