"""PSA beside what it replaces and what it is added to, in one run on one machine.

    python benchmarks/psa_block.py --shapes w32-256x192 --batch 1 32 --threads 1 2
    python benchmarks/psa_block.py --device cuda --batch 32 --dtype float32 bfloat16 --json psa.json

For every shape, forward (inference) and forward + backward (training), the columns are

- PSA: median milliseconds of `psa_pose.models.PSA`;
- spelled out: how many times as long the same takes the way the authors write it, with three
  C x C/2 convolutions;
- of a block: PSA's time as a share of that of a residual block without attention: two 3x3
  convolutions with BatchNorm, ReLU and the addition;
- of the floor: PSA's time over that of moving the bytes, at the speed of a copy of x: 3 maps
  forward (x read twice, one written) and 5 more backward (x and dy read twice, dx written); on a
  GPU the other way round, the share of the memory's speed that is reached;
- kept: what the forward pass stores for the backward, in maps of the size of x, PSA | spelled out
  (without x itself, which both keep); on a GPU also the peak memory of a step.

On a GPU a step is replayed from a CUDA graph, between two events and after the caches were filled
with something else, so that the milliseconds are the GPU's own; `eager` is what the step takes when
Python launches it, back to back, and how many times as long the spelled-out form takes then. The
floor's speed is that of one large copy, and the last lines say how many rows reach 5 times the
spelled-out form and, of the large maps (`LARGE` bytes), 70% of the floor.

Memory is kept as `tools/train.py` has it on a CPU (`keep_large_blocks`), for all contestants.
Contestants take turns within every round, and a ratio is the median over rounds of the ratios in
one round: machines drift, so only neighbours in time are compared. The range is the quartiles.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import torch
from device import TF32, bandwidth, captured, synchronize, where, write
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / 'tests/models/attention'))
from spelled_out import spelled_out

from psa_pose.engine.memory import keep_large_blocks
from psa_pose.models.attention import PSA

Shape = tuple[int, int, int]
KINDS = {
    'parallel': dict(layout='parallel'),
    'sequential': dict(layout='sequential'),
    'official_p': dict(variant='official_p'),
    'official_s': dict(variant='official_s'),
}


def branches(width: int, height: int) -> list[Shape]:
    """Four maps, each with twice the channels at half the size, from a quarter of 4:3 input."""
    return [(width << i, height >> i, height * 3 // 4 >> i) for i in range(4)]


SHAPES = {
    'w32-256x192': branches(32, 64),
    'w48-256x192': branches(48, 64),
    'w32-384x288': branches(32, 96),
    'w48-384x288': branches(48, 96),
    'r50-256x192': branches(64, 64),  # conv2 of the Bottlenecks
    'r50-384x288': branches(64, 96),
}


class BasicBlock(nn.Module):
    """The residual block without attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + x).relu_()


FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
LARGE = 2**24  # bytes of x; below, the time of a kernel is not that of its bytes alone


class Bench:
    """One shape, batch, dtype, memory format and number of threads."""

    def __init__(
        self, shape: Shape, batch: int, dtype: torch.dtype, device: str, memory_format: str
    ) -> None:
        x = torch.randn((batch, *shape), device=device, dtype=dtype)
        self.x = x.to(memory_format=FORMATS[memory_format])
        self.dy = torch.randn_like(self.x)
        self.autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
        self.device = device

    def step(self, module: nn.Module, function: Callable, training: bool) -> Callable[[], None]:
        x = self.x.detach().requires_grad_(training)

        def inference() -> None:
            with torch.no_grad(), self.autocast:
                function(x)

        def train() -> None:
            x.grad = None
            module.zero_grad()
            with self.autocast:
                y = function(x)
            y.backward(self.dy)

        module.train(training)
        return train if training else inference

    def seconds(self, step: Callable[[], None], repeats: int) -> float:
        """Wall-clock time of a step, one after another."""
        synchronize(self.device)
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        synchronize(self.device)
        return (time.perf_counter() - start) / repeats

    def gpu_seconds(self, step: Callable[[], None], repeats: int) -> float:
        """The GPU's time of a step that finds nothing of its own in the caches."""
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for start, end in events:
            cache_filler().sum()  # read, because what was written would still have to leave
            start.record()
            step()
            end.record()
        synchronize(self.device)
        return statistics.median(start.elapsed_time(end) for start, end in events) / 1e3

    def rounds(
        self, steps: dict[str, Callable[[], None]], rounds: int, slot: float
    ) -> dict[str, list[float]]:
        """Each contestant's seconds, one value a round; a turn lasts about `slot` seconds."""
        repeats, clocks = {}, {}
        for name, step in steps.items():
            replayed = self.device == 'cuda' and not name.startswith('eager')
            clocks[name] = self.gpu_seconds if replayed else self.seconds
            self.seconds(step, 2)  # allocator, cuDNN and page tables warm up
            repeats[name] = max(1, round(slot / self.seconds(step, 2)))
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                times[name].append(clocks[name](step, repeats[name]))
        return times

    def kept_maps(self, module: nn.Module, function: Callable) -> float:
        """Bytes stored for the backward besides x and the parameters, over those of x."""
        known = {t.untyped_storage().data_ptr() for t in (self.x, *module.parameters())}
        kept: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            storage = t.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return t

        x = self.x.detach().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), self.autocast:
            y = function(x)  # alive until all is counted, so that no address is used twice
        del y
        return sum(kept.values()) / self.x.nbytes

    def peak_mib(self, step: Callable[[], None]) -> float | None:
        if self.device != 'cuda':
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Median, and the quartiles around it."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return middle, low, high


@lru_cache
def cache_filler() -> Tensor:
    return torch.ones(2**26, device='cuda')


def measure(
    shape: Shape, kinds: list[str], bench: Bench, rounds: int, slot: float
) -> Iterator[dict]:
    """One row for each kind of PSA, in inference and in training."""
    cuda = bench.device == 'cuda'
    block = BasicBlock(shape[0]).to(bench.device)
    if not bench.x.is_contiguous():
        block.to(memory_format=torch.channels_last)
    target = torch.empty_like(bench.x)
    for kind in kinds:
        psa = PSA(shape[0], **KINDS[kind]).to(bench.device)
        functions = {
            'psa': (psa, psa),
            'spelled': (psa, lambda x, psa=psa: spelled_out(psa, x)),
            'block': (block, block),
        }
        kept = {name: bench.kept_maps(*functions[name]) for name in ('psa', 'spelled')}
        for training in (False, True):
            steps = {name: bench.step(*pair, training) for name, pair in functions.items()}
            peaks = {name: bench.peak_mib(step) for name, step in steps.items()}
            if cuda:
                eager = {f'eager {name}': steps[name] for name in ('psa', 'spelled')}
                steps = {name: captured(step) for name, step in steps.items()} | eager
            else:
                steps['copy'] = lambda: target.copy_(bench.x)
            times = bench.rounds(steps, rounds, slot)
            if cuda:
                times['copy'] = [2 * bench.x.nbytes / bandwidth()] * rounds

            def ratio(
                above: str, below: str, factor: float = 1.0, times: dict = times
            ) -> tuple[float, float, float]:
                pairs = zip(times[above], times[below], strict=True)
                return quartiles([a / (factor * b) for a, b in pairs])

            row = {
                'kind': kind,
                'training': training,
                'bytes_of_x': bench.x.nbytes,
                'psa_ms': 1e3 * statistics.median(times['psa']),
                'spelled_out': ratio('spelled', 'psa'),
                'of_block': ratio('psa', 'block'),
                'of_floor': ratio('psa', 'copy', 8 / 2 if training else 3 / 2),
                'kept_maps': kept,
                'peak_mib': peaks,
            }
            if cuda:
                row['eager_ms'] = 1e3 * statistics.median(times['eager psa'])
                row['eager_spelled_out'] = ratio('eager spelled', 'eager psa')
            yield row


def table(rows: list[dict], title: str, note: str | None) -> Table:
    view = Table(title=title, caption=note)
    for name in ('CxHxW', 'batch', 'PSA', 'pass'):
        view.add_column(name, no_wrap=True)
    columns = ['PSA ms', 'spelled out', 'quartiles', 'of a block', 'of the floor', 'kept']
    cuda = 'eager_ms' in rows[0]
    for name in columns + ['peak MiB', 'eager ms', 'eager'] * cuda:
        view.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        middle, low, high = row['spelled_out']
        cells = [
            'x'.join(map(str, row['shape'])),
            str(row['batch']),
            row['kind'],
            'fwd+bwd' if row['training'] else 'fwd',
            f'{row["psa_ms"]:.3f}',
            f'{"[red]" if middle < 1 else "[bold]"}{middle:.2f}x',
            f'{low:.1f}-{high:.1f}',
            f'{row["of_block"][0]:.0%}',
            f'{1 / row["of_floor"][0]:.0%}' if cuda else f'{row["of_floor"][0]:.1f}x',
            f'{row["kept_maps"]["psa"]:.2f} | {row["kept_maps"]["spelled"]:.2f}',
        ]
        if cuda:
            cells.append(f'{row["peak_mib"]["psa"]:.1f} | {row["peak_mib"]["spelled"]:.1f}')
            cells += [f'{row["eager_ms"]:.3f}', f'{row["eager_spelled_out"][0]:.2f}x']
        view.add_row(*cells)
    return view


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    presets = f'{", ".join(SHAPES)}, all, or CxHxW; default: w32-256x192, on a GPU also w48-384x288'
    parser.add_argument('--shapes', nargs='+', help=presets)
    parser.add_argument('--kinds', nargs='+', default=['parallel', 'sequential'], choices=KINDS)
    parser.add_argument('--batch', nargs='+', type=int, default=[1, 32])
    parser.add_argument('--dtype', nargs='+', default=['float32'], help='float32, bfloat16 ...')
    parser.add_argument('--threads', nargs='+', type=int, default=[1])
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    default = 'default: channels_last on a GPU, as in training, and contiguous on a CPU'
    parser.add_argument('--memory-format', choices=FORMATS, help=default)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--quick', action='store_true', help='few short rounds, batch 8')
    parser.add_argument('--json', type=Path, help='write every number here')
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.batch = 5, [8]
    if args.shapes is None:
        args.shapes = ['w32-256x192'] + ['w48-384x288'] * (args.device == 'cuda')
    if args.memory_format is None:
        args.memory_format = 'channels_last' if args.device == 'cuda' else 'contiguous'
    return args


def resolve(names: list[str]) -> list[Shape]:
    shapes: list[Shape] = []
    for name in names:
        if name == 'all':
            shapes += [shape for preset in SHAPES.values() for shape in preset]
        elif name in SHAPES:
            shapes += SHAPES[name]
        else:
            try:
                channels, height, width = map(int, name.split('x'))
            except ValueError:
                known = ', '.join(SHAPES)
                raise SystemExit(f'--shapes {name}: not CxHxW, nor one of {known}, all') from None
            shapes.append((channels, height, width))
    return list(dict.fromkeys(shapes))


def main() -> None:
    args = parse_args()
    keep_large_blocks()
    torch.manual_seed(0)
    console = Console(width=None if sys.stdout.isatty() else 160)
    cuda = args.device == 'cuda'
    torch.backends.cudnn.benchmark = cuda  # as the Trainer has it, for the block's convolutions
    measured = {'copy_bytes_per_s': bandwidth()} if cuda else {}
    results = []
    for dtype_name in args.dtype:
        for threads in args.threads:
            torch.set_num_threads(threads)
            here, rows = where(args.device, **measured), []
            for shape in resolve(args.shapes):
                for batch in args.batch:
                    dtype = getattr(torch, dtype_name)
                    bench = Bench(shape, batch, dtype, args.device, args.memory_format)
                    for row in measure(shape, args.kinds, bench, args.rounds, slot=0.01):
                        setting = {'dtype': dtype_name, 'threads': threads}
                        rows.append({**setting, 'shape': shape, 'batch': batch, **row})
                    write(args.json, here, results + rows)
            name = f'{dtype_name}, {args.memory_format}, {here["device"]}'
            note = TF32 if cuda and dtype_name == 'float32' else None
            console.print(table(rows, f'{name}, torch {torch.__version__}', note))
            results += rows
    slower = [row for row in results if row['spelled_out'][0] < 1]
    console.print(f'slower than spelled out: {len(slower)} of {len(results)} rows')
    if cuda:
        training = [row for row in results if row['training']]
        large = [row for row in training if row['bytes_of_x'] >= LARGE]
        fast = sum(row['spelled_out'][0] >= 5 for row in training)
        near = sum(row['of_floor'][0] <= 1 / 0.7 for row in large)
        console.print(f'a large copy moves {bandwidth() / 1e12:.2f} TB/s')
        console.print(f'fwd+bwd, 5 times the spelled-out form: {fast} of {len(training)} rows')
        console.print(f'fwd+bwd, 70% of the floor: {near} of {len(large)} rows of large maps')


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
