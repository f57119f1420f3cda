"""`psa-pose test`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_config, joined


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser('test', help='evaluate a model', description='Evaluate a model.')
    add_config(parser)
    parser.add_argument('checkpoint', type=Path, help='checkpoint file')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help="predictions as JSON in the dataset's format; of MPII also as pred.mat",
    )
    parser.add_argument(
        '--boxes',
        metavar='FILE|gt',
        help="person boxes: a detector's, a JSON in COCO's result format, or those of the ground "
        "truth; default: the config's bbox_file, or else ground truth",
    )
    parser.add_argument(
        '--box-thr', type=float, metavar='T', help='use detections with a score above; default: 0'
    )
    parser.add_argument('--metrics', type=Path, metavar='JSON', help='the numbers')
    parser.add_argument(
        '--show-dir',
        type=Path,
        metavar='DIR',
        help='every image with ground truth and with predictions (keypoints scored above 0.2)',
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Evaluate a model."""
    from psa_pose.engine.evaluate import test

    with joined(args) as (cfg, ranks):
        if args.work_dir and ranks.first:  # asked for; one that is only the default is not made
            Path(args.work_dir).mkdir(parents=True, exist_ok=True)
        test(
            cfg,
            args.checkpoint,
            out=args.out,
            metrics_file=args.metrics,
            show_dir=args.show_dir,
            boxes=args.boxes,
            box_thr=args.box_thr,
            ranks=ranks,
        )
