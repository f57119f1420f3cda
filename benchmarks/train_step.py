"""What PSA adds to a whole training step.

    python benchmarks/train_step.py --batch 4 --threads 1
    python benchmarks/train_step.py --device cuda --batch 64 --dtype bfloat16 float32

Forward, loss, backward and optimizer step of a COCO config at 256x192, channels last, with made
crops already on the device: no attention, PSA parallel and sequential, and parallel PSA the way the
authors write it. Contestants take turns within every round; a ratio is the median over rounds of
the ratios to the network without attention in the same round. The range is the quartiles.

On a GPU a step is measured twice: launched from Python, kernel by kernel, as in training; and
replayed as one CUDA graph, which is the GPU's own time. What PSA adds to the first and not to the
second is Python's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from device import TF32, captured, synchronize, where, write  # benchmarks/, the script's folder
from psa_block import spelled_out
from rich.console import Console
from rich.table import Table

from psa_pose import build_model
from psa_pose.engine.config import load_config
from psa_pose.models import PSA
from psa_pose.structures import COCO_KEYPOINTS, PoseBatch

NETWORKS = {
    'simplebaseline_r50': 'configs/coco/simplebaseline_r50{}_256x192.py',
    'hrnet_w32': 'configs/coco/hrnet_w32{}_256x192.py',
}
CONTESTANTS = {'none': '', 'psa_p': '_psa_p', 'psa_s': '_psa_s', 'spelled out': '_psa_p'}


def make_batch(size: int, width: int, height: int, device: str) -> PoseBatch:
    """Crops of noise with keypoints anywhere in them."""
    k = COCO_KEYPOINTS.num_keypoints
    return PoseBatch(
        crop=torch.randint(0, 256, (size, height, width, 3), dtype=torch.uint8, device=device),
        keypoints=torch.rand(size, k, 2, device=device) * torch.tensor([width, height]).to(device),
        visible=torch.ones(size, k, device=device),
        to_image=torch.eye(2, 3, device=device).expand(size, 2, 3),
        person=torch.arange(size, device=device),
        usable=torch.ones(size, dtype=torch.bool, device=device),
    )


def make_step(config: str, contestant: str, args: argparse.Namespace, dtype: str) -> Callable:
    """A training step of one contestant."""
    torch.manual_seed(0)
    model = build_model(load_config(config.format(CONTESTANTS[contestant])), COCO_KEYPOINTS)
    if contestant == 'spelled out':
        for module in model.modules():
            if isinstance(module, PSA):
                module.forward = partial(spelled_out, module)  # type: ignore[method-assign]
    model = model.to(args.device, memory_format=torch.channels_last)
    forward = torch.compile(model.loss) if args.compile else model.loss
    cuda = args.device == 'cuda'
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=cuda or None, capturable=cuda)
    batch = make_batch(args.batch, *model.codec.input_size, args.device)

    def step() -> None:
        with torch.autocast(args.device, getattr(torch, dtype), enabled=dtype != 'float32'):
            loss = forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable, args: argparse.Namespace) -> float:
    """Of one step; on a GPU the mean of several, between two synchronisations."""
    repeats = 10 if args.device == 'cuda' else 1
    synchronize(args.device)
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronize(args.device)
    return (time.perf_counter() - start) / repeats


def compare(network: str, args: argparse.Namespace, dtype: str, launch: str) -> list[dict]:
    """Rows of one network."""
    torch.compiler.reset()  # it gives up on a function that it has compiled too often
    names = args.contestants
    steps = {name: make_step(NETWORKS[network], name, args, dtype) for name in names}
    if launch == 'one graph':
        pool = torch.cuda.graph_pool_handle()
        steps = {name: captured(step, pool) for name, step in steps.items()}
    for step in steps.values():
        step()
    rounds = [{n: seconds(s, args) for n, s in steps.items()} for _ in range(args.rounds)]
    rows = []
    for name in names:
        ratios = [r[name] / r[names[0]] for r in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append(
            {
                'network': network,
                'attention': name,
                'dtype': dtype,
                'launch': 'compiled' if args.compile else launch,
                'batch': args.batch,
                'ms': 1000 * statistics.median(r[name] for r in rounds),
                'ratio': middle,
                'quartiles': [low, high],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--dtype', nargs='+', default=['float32'])
    parser.add_argument('--compile', action='store_true', help='torch.compile the loss')
    parser.add_argument('--contestants', nargs='+', choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--json', type=Path, help='write every number here')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = args.device == 'cuda'
    torch.backends.cudnn.benchmark = cuda  # as the Trainer has it
    here, rows = where(args.device), []
    # All that can be launched from Python first: what stops a capture costs no other figure.
    for launch in ('Python', 'one graph') if cuda and not args.compile else ('Python',):
        for network in args.networks:
            for dtype in args.dtype:
                rows += compare(network, args, dtype, launch)
                write(args.json, here, rows)
    show(rows, args, here['device'])


def show(rows: list[dict], args: argparse.Namespace, device: str) -> None:
    table = Table(
        title=f'Training step at 256x192, batch {args.batch}, {device}',
        caption=TF32 if args.device == 'cuda' and 'float32' in args.dtype else None,
    )
    for column in ('network', 'attention', 'dtype', 'launch', 'ms', 'ratio', 'quartiles'):
        table.add_column(column, justify='right', no_wrap=True)
    for row in rows:
        low, high = row['quartiles']
        table.add_row(
            row['network'],
            row['attention'],
            row['dtype'],
            row['launch'],
            f'{row["ms"]:.1f}',
            f'{row["ratio"]:.3f}',
            f'{low:.3f} .. {high:.3f}',
        )
    Console(width=100).print(table)


if __name__ == '__main__':
    main()
