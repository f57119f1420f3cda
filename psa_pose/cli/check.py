"""`psa-pose check`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_config


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'check',
        help='what is wrong with a config, its data and this machine',
        description='Look at a config, its files, its data and this machine, without training; '
        'the exit status is 1 where a run would stop.',
    )
    add_config(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='the findings')
    parser.add_argument('--strict', action='store_true', help='fail at warnings as well')
    return parser


def run(args: argparse.Namespace) -> int:
    """Look at everything, and say what to do about each finding."""
    from psa_pose.engine.check.doctor import check

    return check(args.config, args.cfg_options, args.work_dir, args.json, args.strict)
