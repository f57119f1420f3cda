"""The command line: `psa-pose train CONFIG` and `tools/train.py CONFIG` are this code."""

import argparse
import faulthandler
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from psa_pose.errors import ConfigError, PSAPoseError

if TYPE_CHECKING:
    from mmengine.config import Config

    from psa_pose.engine.ranks import Ranks


# PyTorch's warnings of a lost connection are twenty lines each; the error says it in one.
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        args.command(args)
    except (PSAPoseError, OSError) as error:  # no room, no permission: for the user to mend
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='psa-pose', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    train = commands.add_parser('train', help='train a model', description='Train a model.')
    train.set_defaults(command=_train)
    _common(train)
    train.add_argument(
        '--resume',
        nargs='?',
        const=True,
        default=False,
        choices=['auto'],
        help="go on from the last checkpoint; 'auto': if there is one, or else start",
    )
    train.add_argument('--load-from', metavar='CKPT', help='start from these weights')
    train.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16, or float16 where a GPU has none',
    )
    train.add_argument(
        '--dry-run', action='store_true', help='build everything, run one batch of each, stop'
    )

    test = commands.add_parser('test', help='evaluate a model', description='Evaluate a model.')
    test.set_defaults(command=_test)
    _common(test)
    test.add_argument('checkpoint', type=Path, help='checkpoint file')
    test.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help="predictions as JSON in the dataset's format; of MPII also as pred.mat",
    )
    test.add_argument(
        '--boxes',
        metavar='FILE|gt',
        help="person boxes: a detector's, a JSON in COCO's result format, or those of the ground "
        "truth; default: the config's bbox_file, or else ground truth",
    )
    test.add_argument(
        '--box-thr', type=float, metavar='T', help='use detections with a score above; default: 0'
    )
    test.add_argument('--metrics', type=Path, metavar='JSON', help='the numbers')
    test.add_argument('--show-dir', type=Path, metavar='DIR', help='pictures of the predictions')

    info = commands.add_parser(
        'info',
        help='what models cost',
        description='Parameters, multiply-adds and kept activations of models, by part.',
    )
    info.set_defaults(command=_info)
    info.add_argument('configs', nargs='*', metavar='CONFIG', help='config files')
    info.add_argument(
        '--input-size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="pixels of the input; default: the codec's",
    )
    info.add_argument(
        '--paper', action='store_true', help="the PSA paper's table, beside what is counted here"
    )
    info.add_argument('--json', type=Path, metavar='FILE', help='the numbers')
    _cfg_options(info)

    bench = commands.add_parser(
        'benchmark',
        help='how fast a config trains here, and what bounds it',
        description='Time data, training step and both together on one device of this machine.',
    )
    bench.set_defaults(command=_benchmark)
    _common(bench)
    bench.add_argument(
        '--seconds', type=float, default=60, metavar='S', help='about how long; default: 60'
    )
    bench.add_argument('--json', type=Path, metavar='FILE', help='the numbers')

    errors = commands.add_parser(
        'analyze-errors',
        help='why a model loses AP',
        description='Errors of a results file by kind, and what each kind costs in AP.',
    )
    errors.set_defaults(command=_analyze_errors)
    errors.add_argument('results', type=Path, help="predictions in COCO's format (test --out)")
    errors.add_argument(
        '--ann', type=Path, required=True, metavar='FILE', help='ground truth, a COCO-style JSON'
    )
    errors.add_argument('--out', type=Path, metavar='DIR', help='for diagnosis.json and plots')
    errors.add_argument(
        '--match-oks', type=float, metavar='T', help='OKS of a person and its detection: 0.1'
    )
    errors.add_argument(
        '--good', type=float, metavar='T', help='similarity of a right keypoint: 0.85'
    )
    errors.add_argument(
        '--near', type=float, metavar='T', help='similarity of a keypoint near a place: 0.5'
    )
    errors.add_argument(
        '--any-part',
        action='store_true',
        help='confusions with any keypoint; default: with the same one and its mirror image',
    )
    errors.add_argument(
        '--cure',
        choices=('truth', 'paper'),
        help="put cured keypoints onto their labels (default), or as far off as in the paper's AP",
    )
    errors.add_argument(
        '--pck-thr', type=float, metavar='T', help="share of the box' larger side: 0.2"
    )

    publish = commands.add_parser(
        'publish-model',
        help='weights alone, for others',
        description='Strip a checkpoint to its weights and a model card; name it by its checksum.',
    )
    publish.set_defaults(command=_publish_model)
    publish.add_argument('checkpoint', type=Path, help='checkpoint file')
    publish.add_argument('out', type=Path, help='file to write; 8 digits of its checksum are added')
    publish.add_argument('--config', metavar='CONFIG', help="default: the run's own config.py")
    publish.add_argument(
        '--metrics', type=Path, metavar='JSON', help="of tools/test.py; default: the checkpoint's"
    )
    publish.add_argument(
        '--format',
        choices=('pth', 'safetensors', 'mmpose'),
        help="default: by the file's ending; mmpose is .pth that MMPose 1.x loads",
    )

    data = commands.add_parser(
        'prepare-data',
        help='bring COCO or MPII into place',
        description='Find or fetch archives, check and unpack them, convert, say what is missing.',
    )
    data.add_argument('dataset', choices=('coco', 'mpii'))
    data.add_argument('root', type=Path, nargs='?', help='its folder; default: data/<dataset>')
    data.add_argument(
        '--archives', type=Path, metavar='DIR', help='where archives are; default: <root>/archives'
    )
    data.add_argument(
        '--download', action='store_true', help='fetch what is missing, to the archives'
    )
    data.add_argument('--check', action='store_true', help='change nothing, say what is there')
    data.add_argument(
        '--unverified',
        action='store_true',
        help='take archives whose size or checksum is not the published one',
    )
    data.add_argument(
        '--mirror', metavar='URL', help='fetch URL/<archive> instead of the published address'
    )
    data.set_defaults(command=_prepare_data)

    demo = commands.add_parser('demo-data', help='render people to train and evaluate on')
    demo.set_defaults(command=_demo_data)
    demo.add_argument('root', type=Path, help='folder to write to')
    demo.add_argument('--train', type=int, default=1000, metavar='N', help='images to train on')
    demo.add_argument('--val', type=int, default=200, metavar='N', help='images held out')
    demo.add_argument('--seed', type=int, default=0)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', metavar='DIR', help='default: work_dirs/<name of the config>')
    _cfg_options(parser)


def _cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config'
    )


def _load(args: argparse.Namespace, options: Sequence[str] = ()) -> 'Config':
    from psa_pose.engine.config import load_config

    cfg = load_config(args.config, [*args.cfg_options, *options])
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


@contextmanager
def _joined(
    args: argparse.Namespace, options: Sequence[str] = ()
) -> 'Iterator[tuple[Config, Ranks]]':
    """The config, and the processes of this run, which have met; an error ends them all."""
    from psa_pose.engine.ranks import DistOptions, Ranks, dist_options, read_launch

    with suppress(OSError, ValueError):  # a stream that is no file
        faulthandler.enable()  # a crash in compiled code says where
    waits, error = DistOptions(), None
    try:
        cfg = _load(args, options)
        waits = dist_options(cfg)
    except (PSAPoseError, OSError) as caught:
        error = caught
    with Ranks(read_launch(), waits) as ranks:
        if error:  # not before the ranks have met: one of them says it, and all end
            raise error
        yield cfg, ranks


def _train(args: argparse.Namespace) -> None:
    from psa_pose.engine.train import train

    options = ['optim_wrapper.type=AmpOptimWrapper'] if args.amp else []
    with _joined(args, options) as (cfg, ranks):
        if args.resume is True and args.load_from:
            raise ConfigError('--resume goes on with the weights of the run: leave out --load-from')
        if args.load_from:
            cfg.load_from = args.load_from
        train(cfg, resume=args.resume, dry_run=args.dry_run, ranks=ranks)


def _test(args: argparse.Namespace) -> None:
    from psa_pose.engine.evaluate import test

    with _joined(args) as (cfg, ranks):
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


def _info(args: argparse.Namespace) -> None:
    from psa_pose.engine.info import info

    info(
        args.configs,
        options=args.cfg_options,
        input_size=args.input_size,
        paper=args.paper,
        json_file=args.json,
    )


def _benchmark(args: argparse.Namespace) -> None:
    from psa_pose.engine.benchmark import benchmark

    benchmark(_load(args), args.seconds, args.json)


def _analyze_errors(args: argparse.Namespace) -> None:
    from psa_pose.engine.analyze_errors import analyze_errors
    from psa_pose.evaluation.diagnosis import Options

    names = ('match_oks', 'good', 'near', 'any_part', 'cure', 'pck_thr')
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    try:
        options = Options(**given)
    except ValueError as error:
        raise ConfigError(f'options: {error}') from None
    analyze_errors(args.results, args.ann, args.out, options)


def _publish_model(args: argparse.Namespace) -> None:
    from psa_pose.engine.publish import publish

    publish(
        args.checkpoint,
        args.out,
        config=args.config,
        metrics_file=args.metrics,
        file_format=args.format,
    )


def _prepare_data(args: argparse.Namespace) -> None:
    from psa_pose.datasets.prepare import prepare

    prepare(
        args.dataset,
        args.root or Path('data', args.dataset),
        archives=args.archives,
        fetch=args.download,
        check=args.check,
        unverified=args.unverified,
        mirror=args.mirror,
    )


def _demo_data(args: argparse.Namespace) -> None:
    from psa_pose.datasets.synthetic import render_dataset

    for split, count in (('train', args.train), ('val', args.val)):
        path = render_dataset(args.root, split, count, args.seed)
        print(f'{count} images, {path}')


if __name__ == '__main__':
    sys.exit(main())
