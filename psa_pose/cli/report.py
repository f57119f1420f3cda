"""`psa-pose report`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'report',
        help='a run, or several, as a page of HTML',
        description='Write a page about a run, or one that compares several, from the files in '
        'their work dirs.',
    )
    parser.add_argument(
        'work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='of runs, also unfinished ones'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='the page; default: WORK_DIR/report.html, of several runs comparison.html',
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from psa_pose.report import write_report

    path = write_report(args.work_dirs, args.out)
    print(f'report    {path} ({path.stat().st_size / 1e6:.1f} MB)')
