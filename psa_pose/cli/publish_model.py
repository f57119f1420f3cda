"""`psa-pose publish-model`."""

import argparse
from pathlib import Path

from psa_pose.cli.common import Commands


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        'publish-model',
        help='weights alone, for others',
        description='Strip a checkpoint to its weights and a model card; name it by its checksum.',
    )
    parser.add_argument('checkpoint', type=Path, help='checkpoint file')
    parser.add_argument('out', type=Path, help='file to write; 8 digits of its checksum are added')
    parser.add_argument('--config', metavar='CONFIG', help="default: the run's own config.py")
    parser.add_argument(
        '--metrics', type=Path, metavar='JSON', help="of tools/test.py; default: the checkpoint's"
    )
    parser.add_argument(
        '--format',
        choices=('pth', 'safetensors', 'mmpose'),
        help="default: by the file's ending; mmpose is .pth that MMPose 1.x loads",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Strip a checkpoint."""
    from psa_pose.engine.publish import publish

    publish(
        args.checkpoint,
        args.out,
        config=args.config,
        metrics_file=args.metrics,
        file_format=args.format,
    )
