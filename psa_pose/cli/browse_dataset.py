"""`psa-pose browse-dataset`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_cfg_options


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'browse-dataset',
        help='what the model will see',
        description='A contact sheet: images, augmented crops, targets; with a checkpoint also '
        "predictions, heatmaps and PSA's gates.",
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, metavar='PNG', help='the picture')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='default: train'
    )
    parser.add_argument(
        '--count', type=int, default=8, metavar='N', help='persons, spread over the split: 8'
    )
    parser.add_argument(
        '--index', type=int, nargs='+', metavar='I', help='these persons instead, from 0'
    )
    parser.add_argument('--epoch', type=int, metavar='E', help='of the augmentation, from 0')
    parser.add_argument(
        '--checkpoint', metavar='CKPT', help="adds this model's pose, heatmaps and gates"
    )
    parser.add_argument(
        '--each-keypoint', action='store_true', help='with a checkpoint: a heatmap a keypoint'
    )
    add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Draw what the model will see."""
    from psa_pose.engine.browse import browse_dataset
    from psa_pose.engine.config import load_config

    shown = browse_dataset(
        load_config(args.config, args.cfg_options),
        args.out,
        split=args.split,
        count=args.count,
        indices=args.index,
        epoch=args.epoch,
        checkpoint=args.checkpoint,
        each_keypoint=args.each_keypoint,
    )
    print(f'written   {args.out}, persons {", ".join(map(str, shown))}')
