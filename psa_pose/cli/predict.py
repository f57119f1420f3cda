"""`psa-pose predict`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands, add_cfg_options


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'predict',
        help='keypoints of images and videos',
        description='Keypoints of images and videos: pictures, videos, JSON.',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help="image, folder, pattern ('photos/**/*.jpg'), video or camera (webcam:0)",
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='for pictures, videos and results.json'
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help="another place for results, in COCO's format"
    )
    parser.add_argument('--no-pictures', action='store_true', help='results.json alone')
    parser.add_argument(
        '--boxes',
        metavar='FILE|detector',
        help="where persons are: a JSON of boxes by file name, in COCO's result format or of "
        "annotations; or torchvision's detector; default: one in each whole image",
    )
    parser.add_argument(
        '--box-thr',
        type=float,
        metavar='T',
        help='use boxes with a score above; default: 0.5 of the detector, else 0',
    )
    parser.add_argument(
        '--ann',
        type=Path,
        metavar='FILE',
        help="COCO-style JSON whose images' ids --boxes uses and results.json gets",
    )
    parser.add_argument(
        '--detector', metavar='NAME', help="torchvision's model; default: a fast one"
    )
    parser.add_argument(
        '--detector-weights', metavar='FILE', help='its weights; default: downloaded once'
    )
    parser.add_argument('--device', help='cuda, cuda:1, mps, cpu; default: the best that is there')
    parser.add_argument(
        '--batch-size', type=_count, default=32, metavar='N', help='persons at once; default: 32'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.2,
        metavar='T',
        help='draw keypoints with a score above; default: 0.2',
    )
    parser.add_argument(
        '--smooth', action='store_true', help='follow persons through videos and smooth them'
    )
    parser.add_argument(
        '--upright', action='store_true', help='turn images as EXIF says; not done in training'
    )
    parser.add_argument('--max-frames', type=_count, metavar='N', help='stop after so many')
    add_cfg_options(parser)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'expected 1 or more, got {number}')
    return number


def run(args: argparse.Namespace) -> int:
    """Predict."""
    from psa_pose.engine.config import load_config
    from psa_pose.inference.detector import DETECTOR
    from psa_pose.inference.inferencer import Inferencer
    from psa_pose.inference.predict import predict

    inferencer = Inferencer(
        load_config(args.config, args.cfg_options),
        args.checkpoint,
        device=args.device,
        batch_size=args.batch_size,
        detector=args.detector or DETECTOR,
        detector_weights=args.detector_weights,
    )
    return predict(
        inferencer,
        args.inputs,
        out=args.out,
        json_file=args.json,
        pictures=not args.no_pictures,
        boxes=args.boxes,
        box_thr=args.box_thr,
        ann_file=args.ann,
        smooth=args.smooth,
        upright=args.upright,
        score_thr=args.score_thr,
        max_frames=args.max_frames,
    )
