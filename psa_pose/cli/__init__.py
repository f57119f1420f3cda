"""The command line: `psa-pose train CONFIG` and `tools/train.py CONFIG` are this code.

A module each: `add` describes a command, `run` imports what it needs and does it.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from psa_pose.cli import (
    ablate,
    analyze_errors,
    benchmark,
    browse_dataset,
    check,
    demo_data,
    export,
    info,
    init_config,
    predict,
    prepare_data,
    publish_model,
    report,
    test,
    train,
)
from psa_pose.errors import PSAPoseError

# PyTorch's warnings of a lost connection are twenty lines each; the error says it in one.
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

COMMANDS = (
    init_config,
    check,
    train,
    test,
    predict,
    ablate,
    info,
    benchmark,
    browse_dataset,
    analyze_errors,
    report,
    publish_model,
    export,
    prepare_data,
    demo_data,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        status = args.command(args)
    except (PSAPoseError, OSError) as error:  # no room, no permission: for the user to mend
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `parse_args` gives `command`, to call with what it gave."""
    parser = argparse.ArgumentParser(prog='psa-pose', description='Human-pose estimation with PSA.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add(commands).set_defaults(command=command.run)
    return parser
