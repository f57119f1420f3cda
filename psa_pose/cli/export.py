"""`psa-pose export`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_config, load


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'export',
        help='a model for use without this project',
        description='Write a model as an ONNX file or a PyTorch program, and compare it with the '
        'original.',
    )
    add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--format',
        choices=('onnx', 'torch'),
        help="default: by the ending of --out, or else 'onnx'; 'torch' is a torch.export program",
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help="default: the config's name in its work dir, .onnx or .pt2",
    )
    options = {'action': argparse.BooleanOptionalAction, 'default': True}
    parser.add_argument(
        '--normalise',
        **options,
        help='take uint8 crops (B, H, W, 3), RGB; otherwise normalised images (B, 3, H, W)',
    )
    parser.add_argument(
        '--decode',
        **options,
        help='give keypoints in pixels of the crop and scores; otherwise heatmaps',
    )
    parser.add_argument(
        '--flip-test', action='store_true', help="average with the mirrored crop's heatmaps"
    )
    parser.add_argument(
        '--check',
        **options,
        help='write only what agrees with the original (heatmaps and scores to 1e-4)',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=10,
        metavar='N',
        help='of the latency measurement, 0 for none; default: 10',
    )
    parser.add_argument('--licence', metavar='TEXT', help='of the weights, for the file to say')
    return parser


def run(args: argparse.Namespace) -> None:
    """Export a model."""
    from psa_pose.export import export_model

    export_model(
        load(args),
        args.checkpoint,
        out=args.out,
        file_format=args.format,
        normalise=args.normalise,
        decode=args.decode,
        flip_test=args.flip_test,
        checked=args.check,
        rounds=args.rounds,
        licence=args.licence,
    )
