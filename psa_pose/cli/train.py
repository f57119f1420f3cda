"""`psa-pose train`."""

import argparse

from psa_pose.cli.common import Commands, add_config, joined
from psa_pose.errors import ConfigError


def add(commands: Commands) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser('train', help='train a model', description='Train a model.')
    add_config(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        choices=['auto'],
        help="go on from the last checkpoint; 'auto': if there is one, or else start",
    )
    parser.add_argument('--load-from', metavar='CKPT', help='start from these weights')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16, or float16 where a GPU has none',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='build everything, run one batch of each, stop'
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Train a model."""
    from psa_pose.engine.train import train

    options = ['optim_wrapper.type=AmpOptimWrapper'] if args.amp else []
    with joined(args, options) as (cfg, ranks):
        if args.resume is True and args.load_from:
            raise ConfigError('--resume goes on with the weights of the run: leave out --load-from')
        if args.load_from:
            cfg.load_from = args.load_from
        train(cfg, resume=args.resume, dry_run=args.dry_run, ranks=ranks)
