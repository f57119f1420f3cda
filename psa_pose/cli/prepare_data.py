"""`psa-pose prepare-data`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'prepare-data',
        help='bring COCO or MPII into place',
        description='Find or fetch archives, check and unpack them, convert, say what is missing.',
    )
    parser.add_argument('dataset', choices=('coco', 'mpii'))
    parser.add_argument('root', type=Path, nargs='?', help='its folder; default: data/<dataset>')
    parser.add_argument(
        '--archives', type=Path, metavar='DIR', help='where archives are; default: <root>/archives'
    )
    parser.add_argument(
        '--download', action='store_true', help='fetch what is missing, to the archives'
    )
    parser.add_argument('--check', action='store_true', help='change nothing, say what is there')
    parser.add_argument(
        '--unverified',
        action='store_true',
        help='take archives whose size or checksum is not the published one',
    )
    parser.add_argument(
        '--mirror', metavar='URL', help='fetch URL/<archive> instead of the published address'
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Bring a dataset into place."""
    from psa_pose.datasets.prepare import prepare

    prepare(
        args.dataset,
        args.root or Path('data', args.dataset),
        archives=args.archives,
        fetch=args.download,
        check=args.check,
        unverified=args.unverified,
        mirror=args.mirror,
    )
