"""`psa-pose demo-data`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser('demo-data', help='render people to train and evaluate on')
    parser.add_argument('root', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=1000, metavar='N', help='images to train on')
    parser.add_argument('--val', type=int, default=200, metavar='N', help='images held out')
    parser.add_argument('--seed', type=int, default=0)
    return parser


def run(args: argparse.Namespace) -> None:
    """Render people."""
    from psa_pose.datasets.synthetic import render_dataset

    for split, count in (('train', args.train), ('val', args.val)):
        path = render_dataset(args.root, split, count, args.seed)
        print(f'{count} images, {path}')
