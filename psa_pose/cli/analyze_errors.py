"""`psa-pose analyze-errors`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands
from psa_pose.errors import ConfigError


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'analyze-errors',
        help='why a model loses AP',
        description='Errors of a results file by kind, and what each kind costs in AP.',
    )
    parser.add_argument('results', type=Path, help="predictions in COCO's format (test --out)")
    parser.add_argument(
        '--ann', type=Path, required=True, metavar='FILE', help='ground truth, a COCO-style JSON'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='for diagnosis.json and plots')
    parser.add_argument(
        '--images', type=Path, metavar='DIR', help='image folder: adds worst.jpg to what --out gets'
    )
    parser.add_argument(
        '--worst', type=int, default=12, metavar='N', help='persons in worst.jpg, by OKS: 12'
    )
    parser.add_argument(
        '--match-oks', type=float, metavar='T', help='OKS of a person and its detection: 0.1'
    )
    parser.add_argument(
        '--good', type=float, metavar='T', help='similarity of a right keypoint: 0.85'
    )
    parser.add_argument(
        '--near', type=float, metavar='T', help='similarity of a keypoint near a place: 0.5'
    )
    parser.add_argument(
        '--any-part',
        action='store_true',
        help='confusions with any keypoint; default: with the same one and its mirror image',
    )
    parser.add_argument(
        '--cure',
        choices=('truth', 'paper'),
        help="put cured keypoints onto their labels (default), or as far off as in the paper's AP",
    )
    parser.add_argument(
        '--pck-thr', type=float, metavar='T', help="share of the box' larger side: 0.2"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Diagnose a results file."""
    from psa_pose.engine.analyze_errors import analyze_errors
    from psa_pose.evaluation.diagnosis import Options

    names = ('match_oks', 'good', 'near', 'any_part', 'cure', 'pck_thr')
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    try:
        options = Options(**given)
    except ValueError as error:
        raise ConfigError(f'options: {error}') from None
    if args.images and not args.out:
        raise ConfigError('--images makes a picture: name a folder for it with --out')
    if args.worst < 1:
        raise ConfigError(f'--worst must be at least 1, got {args.worst}')
    analyze_errors(args.results, args.ann, args.out, options, args.images, args.worst)
