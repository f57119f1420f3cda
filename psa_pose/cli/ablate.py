"""`psa-pose ablate`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'ablate',
        help='compare variants over seeds, with their noise',
        description='Train every variant of a study with every seed, once; write one table.',
    )
    parser.add_argument('study', type=Path, help='study file, see docs/ablation.md')
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help="default: the study's")
    parser.add_argument(
        '--jobs', type=int, metavar='N', help='cells at a time; default: one a GPU, or else one'
    )
    parser.add_argument('--table', action='store_true', help='train nothing, only write the table')
    parser.add_argument(
        '--allow-mixed',
        action='store_true',
        help='take cells of other code, data or config too; the table says so',
    )
    parser.add_argument('--cell', metavar='NAME', help='train this cell, in this process')
    return parser


def run(args: argparse.Namespace) -> int:
    """Run a study, or one cell of it."""
    from psa_pose.ablation.ablate import ablate, ablate_cell

    if args.cell:
        return ablate_cell(args.study, args.work_dir, args.cell, args.allow_mixed)
    return ablate(
        args.study,
        args.work_dir,
        jobs=args.jobs,
        table_only=args.table,
        allow_mixed=args.allow_mixed,
    )
