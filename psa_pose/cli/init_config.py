"""`psa-pose init-config`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'init-config',
        help='a config for your own dataset',
        description="Write a config for a dataset in COCO's keypoint format: a few lines, whose "
        'choices follow from the data and are explained beside them.',
    )
    parser.add_argument(
        '--ann', type=Path, required=True, metavar='JSON', help='annotations to train on'
    )
    parser.add_argument(
        '--images', type=Path, required=True, metavar='DIR', help='folder of their images'
    )
    parser.add_argument(
        '--val-ann',
        type=Path,
        metavar='JSON',
        help='annotations to evaluate on; default: a tenth of the images of --ann, kept apart',
    )
    parser.add_argument('--val-images', type=Path, metavar='DIR', help='default: --images')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='default: configs/<name of --ann>.py'
    )
    parser.add_argument(
        '--backbone',
        default='hrnet_w32_psa_p',
        metavar='NAME',
        help='hrnet_w32, hrnet_w48, hrnet_tiny, simplebaseline_r50, _r101 or _r152; with _psa_p or '
        '_psa_s for PSA, parallel or sequential; default: hrnet_w32_psa_p',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument('--force', action='store_true', help='overwrite what is there')
    return parser


def run(args: argparse.Namespace) -> None:
    """Write a config."""
    from psa_pose.engine.check.init_config import init_config

    init_config(
        args.ann,
        args.images,
        val_ann=args.val_ann,
        val_images=args.val_images,
        out=args.out,
        backbone=args.backbone,
        seed=args.seed,
        force=args.force,
    )
