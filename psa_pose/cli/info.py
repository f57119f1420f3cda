"""`psa-pose info`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_cfg_options


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'info',
        help='what models cost',
        description='Parameters, multiply-adds and kept activations of models, by part.',
    )
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files')
    parser.add_argument(
        '--input-size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="pixels of the input; default: the codec's",
    )
    parser.add_argument(
        '--paper', action='store_true', help="the PSA paper's table, beside what is counted here"
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='the numbers')
    add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Count what models cost."""
    from psa_pose.engine.info import info

    info(
        args.configs,
        options=args.cfg_options,
        input_size=args.input_size,
        paper=args.paper,
        json_file=args.json,
    )
