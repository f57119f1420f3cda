"""`psa-pose demo-data`."""

import argparse
import json
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser('demo-data', help='render people to train and evaluate on')
    parser.add_argument('root', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=1000, metavar='N', help='images to train on')
    parser.add_argument('--val', type=int, default=200, metavar='N', help='images held out')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--force', action='store_true', help='render what is there anew')
    return parser


def run(args: argparse.Namespace) -> None:
    """Render people; a split that is there stays, as runs have been trained on it."""
    from psa_pose.datasets.synthetic import annotation_file, render_dataset

    for split, count in (('train', args.train), ('val', args.val)):
        path = annotation_file(args.root, split)
        if path.exists() and not args.force:
            there = len(json.loads(path.read_text(encoding='utf-8'))['images'])
            print(f'{there} images, {path}: were there already, and stay; --force renders anew')
        else:
            print(f'{count} images, {render_dataset(args.root, split, count, args.seed)}')
