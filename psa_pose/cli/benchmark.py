"""`psa-pose benchmark`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_config, load


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'benchmark',
        help='how fast a config trains here, and what bounds it',
        description='Time data, training step and both together on one device of this machine.',
    )
    add_config(parser)
    parser.add_argument(
        '--seconds', type=float, default=60, metavar='S', help='about how long; default: 60'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='the numbers')
    return parser


def run(args: argparse.Namespace) -> None:
    """Time a config."""
    from psa_pose.engine.benchmark import benchmark

    benchmark(load(args), args.seconds, args.json)
