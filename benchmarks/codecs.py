"""Codecs beside MMPose's, in one run on one machine: encode and decode a batch of heatmaps.

    python benchmarks/codecs.py --threads 1 2 --json codecs.json

MMPose works in its own environment (--peer, built by ../shared/peer) as a process that waits for
its turn. Both get the same numbers: random keypoints, and for decoding their targets with 1% of
noise. Ours is timed from tensors to tensors, MMPose's from arrays to arrays: a loop over persons
as in its pipeline and its head, and for encoding the stacking to a batch.

Turns alternate within every round, and a ratio is the median over rounds of the ratios in one
round: machines drift, so only neighbours in time are compared. The range is the quartiles.

NumPy asks Linux for huge pages, torch does if THP_MEM_ALLOC_ENABLE is 1, which is set here unless
it is set already; and memory is kept as `tools/train.py` has it on a CPU (`keep_large_blocks`). On
either side without, most of the time of 'udp_combined' goes into the page faults of 40 MB.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer import MISSING, PYTHON, Peer, serve, versions

os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')  # before torch is imported

INPUT_SIZE, HEATMAP_SIZE = (192, 256), (48, 64)
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    'msra': ('MSRAHeatmap', {'sigma': 2}),
    'dark': ('MSRAHeatmap', {'sigma': 2, 'unbiased': True}),
    'udp': ('UDPHeatmap', {'sigma': 2}),
    'udp_combined': ('UDPHeatmap', {'heatmap_type': 'combined'}),
}
SIZES = {'input_size': INPUT_SIZE, 'heatmap_size': HEATMAP_SIZE}
Step = Callable[[], Any]


def keypoints(batch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, K, 2) in crop pixels and visibility (B, K), float32."""
    rng = np.random.RandomState(0)
    points = rng.uniform(0, 1, (batch, count, 2)) * (np.array(INPUT_SIZE) - 1)
    return points.astype(np.float32), np.ones((batch, count), np.float32)


def noisy(heatmaps: np.ndarray) -> np.ndarray:
    noise = np.random.RandomState(1).normal(0, 0.01, heatmaps.shape)
    return heatmaps + noise.astype(np.float32)


def our_steps(batch: int, count: int) -> dict[tuple[str, str], Step]:
    import torch

    from psa_pose import codecs
    from psa_pose.engine.memory import keep_large_blocks

    keep_large_blocks()
    points, visible = map(torch.from_numpy, keypoints(batch, count))
    steps: dict[tuple[str, str], Step] = {}
    for name, (kind, options) in CODECS.items():
        codec = getattr(codecs, kind)(**SIZES, **options)
        maps = torch.from_numpy(noisy(codec.encode(points, visible)[0].numpy()))
        steps[name, 'encode'] = lambda codec=codec: codec.encode(points, visible)
        steps[name, 'decode'] = torch.inference_mode()(lambda c=codec, maps=maps: c.decode(maps))
    return steps


def mmposes_steps(batch: int, count: int) -> dict[tuple[str, str], Step]:
    from mmpose import codecs

    points, visible = keypoints(batch, count)
    steps: dict[tuple[str, str], Step] = {}
    for name, (kind, options) in CODECS.items():
        codec = getattr(codecs, kind)(**SIZES, **options)

        def encode(codec: Any = codec) -> np.ndarray:
            persons = zip(points[:, None], visible[:, None], strict=True)
            return np.stack([codec.encode(*person)['heatmaps'] for person in persons])

        maps = noisy(encode())
        steps[name, 'encode'] = encode
        steps[name, 'decode'] = lambda codec=codec, maps=maps: [codec.decode(m) for m in maps]
    return steps


def seconds(step: Step, slot: float) -> float:
    """Of one step, one after another for about `slot` seconds."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < slot or not count:
        step()
        count += 1
    return elapsed / count


def set_threads(threads: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def mmposes_answers(batch: int, count: int) -> Callable[..., float]:
    """What answers the peer's questions: how long one step took."""
    steps = mmposes_steps(batch, count)

    def answer(threads: int, codec: str, which: str, slot: float) -> float:
        set_threads(threads)
        return seconds(steps[codec, which], slot)

    return answer


def measure(args: argparse.Namespace, peer: Peer) -> list[dict[str, Any]]:
    steps = our_steps(args.batch, args.keypoints)
    rows = []
    for threads in args.threads:
        set_threads(threads)
        for (name, which), step in steps.items():
            turns = []
            for round_ in range(args.rounds + 1):
                ours = seconds(step, args.slot)
                theirs = peer.ask(threads=threads, codec=name, which=which, slot=args.slot)
                if round_:  # the first warms up
                    turns.append((ours, theirs))
            ratios = [theirs / ours for ours, theirs in turns]
            low, middle, high = statistics.quantiles(ratios, n=4, method='inclusive')
            rows.append(
                {
                    'threads': threads,
                    'codec': name,
                    'pass': which,
                    'ms': 1e3 * statistics.median(ours for ours, _ in turns),
                    'mmpose_ms': 1e3 * statistics.median(theirs for _, theirs in turns),
                    'ratio': middle,
                    'quartiles': (low, high),
                }
            )
    return rows


def show(rows: list[dict[str, Any]], args: argparse.Namespace, caption: str) -> None:
    from rich.console import Console
    from rich.table import Table

    width, height = HEATMAP_SIZE
    table = Table(title=f'{args.batch} x {args.keypoints} x {height} x {width}', caption=caption)
    for column in ('codec', 'pass'):
        table.add_column(column, no_wrap=True)
    for column in ('threads', 'ms', 'MMPose ms', 'ratio', 'quartiles'):
        table.add_column(column, justify='right', no_wrap=True)
    for row in rows:
        low, high = row['quartiles']
        table.add_row(
            row['codec'],
            row['pass'],
            str(row['threads']),
            f'{row["ms"]:.2f}',
            f'{row["mmpose_ms"]:.1f}',
            f'{"[bold]" if row["ratio"] >= 10 else "[red]"}{row["ratio"]:.1f}x',
            f'{low:.1f}-{high:.1f}',
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--peer', type=Path, default=PYTHON, help='Python that has MMPose')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--keypoints', type=int, default=17)
    parser.add_argument('--threads', nargs='+', type=int, default=[1])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--slot', type=float, default=0.05, help='seconds of a turn, or one step')
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error('--rounds: at least 2, for quartiles')
    return args


def main() -> None:
    args = parse_args()
    if args.serve:
        serve(lambda: mmposes_answers(args.batch, args.keypoints))
        return
    if not args.peer.exists():
        print(MISSING.format(args.peer))
        return
    command = (__file__, '--serve', '--batch', str(args.batch), '--keypoints', str(args.keypoints))
    with Peer(args.peer, *command) as peer:
        rows = measure(args, peer)
    ours = versions('psa_pose')
    sides = [', '.join(f'{k} {v}' for k, v in side.items()) for side in (ours, peer.versions)]
    show(rows, args, ' | '.join(sides))
    if args.json:
        content = {'versions': ours, 'mmpose_versions': peer.versions, 'rows': rows}
        args.json.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
