"""This project's training step beside the plain one, and whole epochs with their data.

    python benchmarks/train_speed.py steps --batch 8                  # a CPU, beside MMPose 1.1
    python benchmarks/train_speed.py steps --device cuda --batch 64   # a GPU
    python benchmarks/train_speed.py curve --device cuda              # the same losses?
    python benchmarks/train_speed.py epoch --device cuda --workers 16

Real images and keypoints (../shared/data/coco_mini) with the training augmentation, at 256x192.

steps  From a loaded batch to new weights. `mmpose`: the real MMPose on its own config and data, its
       `train_step` with its preprocessing, loss, accuracy and Adam; where it is not installed, as
       beside a GPU, `plain` stands in for it: our network, NCHW, eager float32, Adam not fused.
       `default` is what this project does there if not told otherwise, on a GPU with bfloat16;
       `graphs` is it compiled with CUDA graphs, `captured` the eager step replayed as one graph:
       the GPU's own time. Contestants take turns; a ratio is the median over rounds of the ratios
       within one round, its range the quartiles. On a CPU time is what the process spent on its
       processor, another program's turn left out.
curve  The losses of `default` and `plain` from the same weights on the same batches, and of `plain`
       from other weights: the noise that a difference must be compared with.
epoch  `tools/train.py` itself: samples a second and the share of the time waiting for data. Every
       person comes `--repeat` times, for epochs of a length that a real one has.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from device import TF32, captured, where, write
from evaluation import NETWORKS as MMPOSE_CONFIGS
from peer import PYTHON, Peer, serve
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / 'shared' / 'data' / 'coco_mini'
ANN_FILE = 'annotations/person_keypoints_train.json'
CONFIGS = {
    'hrnet_w32': 'coco/hrnet_w32_256x192.py',
    'simplebaseline_r50': 'coco/simplebaseline_r50_256x192.py',
    'hrnet_tiny': 'coco_mini/hrnet_tiny_psa_p_128x96.py',
}
PLAIN = ['optim_wrapper.type=OptimWrapper', 'env_cfg.channels_last=False']
AMP = 'optim_wrapper.type=AmpOptimWrapper'
CONTESTANTS = {
    'plain': PLAIN,
    'default': [],
    'bfloat16': [AMP],
    'compiled': ['compile=True'],
    'bfloat16, compiled': [AMP, 'compile=True'],
    'graphs': ['compile.mode=reduce-overhead'],
    'captured': [],
}
ALL = {  # on a GPU `default` already is bfloat16
    'cpu': ['plain', 'default', 'bfloat16', 'compiled', 'bfloat16, compiled'],
    'cuda': ['plain', 'default', 'compiled', 'graphs', 'captured'],
}
Step = Callable[[], Any]


class Training:
    """Our step as the engine builds it, without Lightning's loop around it."""

    def __init__(
        self, network: str, contestant: str, args: argparse.Namespace, seed: int = 0
    ) -> None:
        from psa_pose.engine import build
        from psa_pose.engine.config import load_config
        from psa_pose.engine.module import PoseModule
        from psa_pose.engine.step import step_options

        accelerator = 'cpu' if args.device == 'cpu' else 'gpu'
        changes = [f'trainer.accelerator={accelerator}', *data_options(args)]
        cfg = load_config(CONFIGS[network], [*changes, *CONTESTANTS[contestant]])
        self.step = step_options(cfg)
        torch.manual_seed(seed)
        dataset = build.build_dataset(cfg, 'train_dataloader')
        self.estimator = build.build_model(cfg, dataset.info).to(args.device)
        self.loss = PoseModule(self.estimator, None, self.step)._loss  # type: ignore[arg-type]
        fused = contestant != 'plain' and self.step.fuses(torch.optim.Adam, {})
        self.optimizer = torch.optim.Adam(
            self.estimator.parameters(),
            5e-4,
            fused=fused or None,
            capturable=contestant == 'captured',
        )
        self.dataset, self.device = dataset, args.device
        self.benchmark = self.step.cudnn_benchmark and contestant != 'plain'

    def batches(self, size: int) -> Iterator[Any]:
        """On the device, epoch after epoch, the same for every contestant."""
        from psa_pose.datasets import PoseDataLoader

        loader = PoseDataLoader(self.dataset, size, train=True)
        while True:
            for batch in loader:
                yield type(batch)(*(field.to(self.device) for field in batch))

    def __call__(self, batch: Any) -> torch.Tensor:
        torch.backends.cudnn.benchmark = self.benchmark  # contestants share the process
        dtype = getattr(torch, self.step.dtype)
        with torch.autocast(self.device, dtype, enabled=dtype != torch.float32):
            loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class MMPose:
    """The real one: seconds of its step, over batches of its own loader."""

    def __init__(self, network: str, data: str, batch: int, threads: int) -> None:
        import mmpose
        from mmengine.config import Config
        from mmengine.runner import Runner
        from mmpose.utils import register_all_modules

        torch.set_num_threads(threads)
        register_all_modules()
        folder = Path(mmpose.__file__).parent / '.mim/configs/body_2d_keypoint/topdown_heatmap'
        cfg = Config.fromfile(folder / 'coco' / f'{MMPOSE_CONFIGS[network]}.py')
        cfg.model.backbone.init_cfg = None
        cfg.work_dir, cfg.log_level = tempfile.mkdtemp(), 'ERROR'
        loader = cfg.train_dataloader
        loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=data, ann_file=ANN_FILE, data_prefix={'img': 'images/'})
        cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
        cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
        runner = Runner.from_cfg(cfg)
        self.model = runner.model.train()
        self.wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        self.batch = next(iter(runner.build_dataloader(loader)))

    def seconds(self) -> float:
        start = time.process_time()
        self.model.train_step(self.batch, self.wrapper)
        return time.process_time() - start


def data_options(args: argparse.Namespace, ann_file: str | Path = ANN_FILE) -> list[str]:
    return [
        f'train_dataloader.dataset.data_root={args.data.resolve()}',
        f'train_dataloader.dataset.ann_file={ann_file}',
        'train_dataloader.dataset.data_prefix.img=images/',
    ]


def seconds(step: Step, device: str) -> float:
    """Of one step; on a GPU the mean of several, between two synchronisations."""
    if device == 'cpu':
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / 10


def our_step(network: str, contestant: str, args: argparse.Namespace) -> Step:
    training = Training(network, contestant, args)
    batch = next(training.batches(args.batch))
    step = partial(training, batch)
    return captured(step) if contestant == 'captured' else step


def steps(network: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one network, ratios to the first of them."""
    torch.compiler.reset()  # it gives up on a function that it has compiled too often
    steps: dict[str, Step] = {n: our_step(network, n, args) for n in args.contestants}
    timers = {n: lambda step=step: seconds(step, args.device) for n, step in steps.items()}
    peer = None
    if args.device == 'cpu' and args.peer.exists() and network in MMPOSE_CONFIGS:
        options = json.dumps([network, str(args.data.resolve()), args.batch, args.threads])
        peer = Peer(args.peer, __file__, 'steps', '--serve', options)
        timers = {'mmpose': peer.ask, **timers}
    for timer in timers.values():  # compiles, tries algorithms
        timer()
        timer()
    rounds = [{n: timer() for n, timer in timers.items()} for _ in range(args.rounds)]
    if peer:
        peer.process.communicate()
    rows, first = [], next(iter(timers))
    for name in timers:
        ratios = [r[first] / r[name] for r in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4, method='inclusive')
        rows.append(
            {
                'network': network,
                'step': name,
                'ms': 1000 * statistics.median(r[name] for r in rounds),
                'samples_per_s': args.batch / statistics.median(r[name] for r in rounds),
                'ratio': middle,
                'quartiles': [low, high],
            }
        )
    return rows


def curve(network: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Means over tenths of the run; of each the difference to `plain`."""
    means = {}
    for name, contestant, seed in (
        ('plain', 'plain', 0),
        (args.contestants[-1], args.contestants[-1], 0),
        ('plain, other weights', 'plain', 1),
    ):
        training = Training(network, contestant, args, seed)
        batches = training.batches(args.batch)
        losses = torch.stack([training(next(batches)) for _ in range(args.steps)])
        means[name] = losses[: args.steps // 10 * 10].view(10, -1).mean(1).tolist()
    return [
        {
            'network': network,
            'step': name,
            'first': values[0],
            'last': values[-1],
            'largest_difference': max(
                abs(v / p - 1) for v, p in zip(values, means['plain'], strict=True)
            ),
            'means': values,
        }
        for name, values in means.items()
    ]


def repeated(source: Path, times: int, target: Path) -> None:
    """Annotations that have every person of `source` many times, in the same image files."""
    content = json.loads(source.read_text())
    step = 1 + max(e['id'] for name in ('images', 'annotations') for e in content[name])

    def again(entry: dict[str, Any], i: int) -> dict[str, Any]:
        new = {key: entry[key] + i * (step) for key in ('id', 'image_id') if key in entry}
        return {**entry, **new}

    for name in ('images', 'annotations'):
        content[name] = [again(entry, i) for i in range(times) for entry in content[name]]
    target.write_text(json.dumps(content))


def epoch(network: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What a run of the tool says of itself, over its lines after the first."""
    rows = []
    for name in args.contestants:
        with tempfile.TemporaryDirectory() as folder:
            persons = Path(folder, 'persons.json')
            repeated(args.data / ANN_FILE, args.repeat, persons)
            options = [
                *data_options(args, persons),
                *(o.replace('train_', 'val_', 1) for o in data_options(args)),
                *CONTESTANTS[name],
                f'train_dataloader.batch_size={args.batch}',
                f'train_dataloader.num_workers={args.workers}',
                f'train_cfg.max_epochs={args.epochs}',
                'train_cfg.val_interval=1000',
                'default_hooks.checkpoint.interval=1000',
                'default_hooks.logger.interval=20',
                'trainer.limit_val_batches=1',
                f'trainer.accelerator={"cpu" if args.device == "cpu" else "gpu"}',
            ]
            command = [sys.executable, str(ROOT / 'tools/train.py'), CONFIGS[network]]
            done = subprocess.run(
                [*command, '--work-dir', folder, '--cfg-options', *options],
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
        found = re.findall(r'(\d+) samples/s  data wait (\d+)%', done.stdout)[1:]
        if done.returncode or not found:
            raise SystemExit(done.stdout + done.stderr)
        speed, waiting = (
            statistics.median(map(float, column)) for column in zip(*found, strict=True)
        )
        rows.append(
            {
                'network': network,
                'step': name,
                'samples_per_s': speed,
                'waiting_for_data': waiting / 100,
            }
        )
    return rows


def show(rows: list[dict[str, Any]], title: str, note: str | None) -> None:
    table = Table(title=title, caption=note)
    names = [key for key in rows[0] if key != 'means']
    for name in names:
        table.add_column(name.replace('_', ' '), justify='right', no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ' .. '.join(f'{v:.2f}' for v in value)
    return value if isinstance(value, str) else f'{value:.4g}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=('steps', 'curve', 'epoch'))
    parser.add_argument('--peer', type=Path, default=PYTHON, help='Python that has MMPose')
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--networks', nargs='+', choices=CONFIGS, default=['simplebaseline_r50', 'hrnet_w32']
    )
    parser.add_argument('--contestants', nargs='+', choices=CONTESTANTS)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5, help='of steps')
    parser.add_argument('--steps', type=int, default=200, help='of a curve')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=20, help='each of the 287 persons, an epoch')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--serve', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(lambda: MMPose(*json.loads(args.serve)).seconds)
        return
    if not args.data.is_dir():
        raise SystemExit(f'{args.data} is missing: name the folder with --data')
    torch.set_num_threads(args.threads)
    default = {'steps': ALL[args.device], 'curve': ['default'], 'epoch': ['default', 'plain']}
    args.contestants = args.contestants or default[args.what]
    here, rows = where(args.device, batch=args.batch), []
    for network in args.networks:
        rows += globals()[args.what](network, args)
        write(args.json, here, rows)
    note = f'`plain` is {TF32}' if args.device == 'cuda' else None
    title = f'{args.what}, batch {args.batch}, {here["device"]}, torch {here["torch"]}'
    show(rows, title, note)


if __name__ == '__main__':
    main()
