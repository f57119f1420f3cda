"""Where a run writes: its folder, and what is in it already."""

import os
from pathlib import Path

from mmengine.config import Config

from psa_pose.engine.check.findings import Findings
from psa_pose.engine.resume import kept


def check_work_dir(cfg: Config, findings: Findings) -> None:
    """Whether a run can be written to `work_dir`, and whether there is one."""
    folder = Path(cfg.work_dir)
    nearest = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not nearest.is_dir():
        findings.error('work_dir', f'{nearest} is a file', 'name another --work-dir')
    elif not os.access(nearest, os.W_OK | os.X_OK):
        findings.error('work_dir', f'{nearest} cannot be written to', 'name another --work-dir')
    checkpoints = kept(folder / 'checkpoints')
    if checkpoints:
        findings.warning(
            'work_dir',
            f'{folder} already holds a run ({len(checkpoints)} checkpoints)',
            'go on with --resume, or name another --work-dir',
        )
