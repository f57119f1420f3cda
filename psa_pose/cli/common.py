"""What commands share."""

import argparse
import faulthandler
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from psa_pose.errors import PSAPoseError

if TYPE_CHECKING:
    from mmengine.config import Config

    from psa_pose.engine.ranks import Ranks

Commands: TypeAlias = Any
"""What `add_subparsers` gives: argparse has no public name for it."""


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that works with one config."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', metavar='DIR', help='default: work_dirs/<name of the config>')
    add_cfg_options(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """`--cfg-options`."""
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config'
    )


def load(args: argparse.Namespace, options: Sequence[str] = ()) -> 'Config':
    """The config that the arguments name, with its options and work dir."""
    from psa_pose.engine.config import load_config

    cfg = load_config(args.config, [*args.cfg_options, *options])
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


@contextmanager
def joined(
    args: argparse.Namespace, options: Sequence[str] = ()
) -> 'Iterator[tuple[Config, Ranks]]':
    """The config, and the processes of this run, which have met; an error ends them all."""
    from psa_pose.engine.ranks import DistOptions, Ranks, dist_options, read_launch

    with suppress(OSError, ValueError):  # a stream that is no file
        faulthandler.enable()  # a crash in compiled code says where
    waits, error = DistOptions(), None
    try:
        cfg = load(args, options)
        waits = dist_options(cfg)
    except (PSAPoseError, OSError) as caught:
        error = caught
    with Ranks(read_launch(), waits) as ranks:
        if error:  # not before the ranks have met: one of them says it, and all end
            raise error
        yield cfg, ranks
