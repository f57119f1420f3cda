"""What more processes bring, what communication costs, and what to expect of a cluster.

    python benchmarks/scaling.py CONFIG --ranks 1 2 --steps 5 --batch 4
    python benchmarks/scaling.py CONFIG --compare static_graph=True grad_compression=bf16
    python benchmarks/scaling.py CONFIG --ranks 1 2 --link 1gbit      # as root: two nodes, one link
    python benchmarks/scaling.py CONFIG --estimate --step-ms 60 --gpus 8 64 --link-gbit 100 25

The training step as the engine builds it, with its data, on 1..N processes of one job that torchrun
starts: gloo on a CPU, where a process has one thread and one core, NCCL on GPUs. All numbers of
processes and all options take turns within every round, so ratios are between neighbours in time;
a ratio is the median over rounds, its range the quartiles. Each option keeps a network of its own
in memory. Where other programs had more than 5 % of a core a turn is taken again, --tries times at
most.

CPU            What the process spent on its processor in a step, another program's turn left out.
efficiency     Samples a second of a process, relative to one process alone.
exposed        Time that communication adds to a step: beside the same processes that communicate
               nothing, which is the row before it.
communication  Share of a step in which something was under way, hidden or not (torch.profiler).
data           Share of a step that waited for a batch (torch.profiler).
--compare      Values of `model_wrapper_cfg`, each beside the defaults, which are the row DDP;
               `overlap=False` sends all gradients at the end; a comma joins several.
--link         Every process in a network namespace of its own; the rate is `tc`'s, without delay.
--estimate     From a step time that was measured elsewhere, or from a share of an H100's peak.
"""

import argparse
import ast
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from network_link import address, nodes
from rich.console import Console
from rich.table import Table
from scaling_estimate import BACKWARD, allreduce, estimate, exposed, show_estimate
from train_speed import data_options

from psa_pose.engine.config import load_config
from psa_pose.engine.strategy import SYNC_BUFFERS, WRAPPERS

RANK = Path(__file__).with_name('scaling_rank.py')
DDP = {**WRAPPERS['DistributedDataParallel'], SYNC_BUFFERS: False}  # as the engine has it
NUMBERS = ('batch', 'workers', 'steps', 'rounds', 'tries', 'strong')
UNITS = {'kbit': 1e3, 'mbit': 1e6, 'gbit': 1e9}


def parse_options(text: str) -> dict[str, Any]:
    """'static_graph=True,bucket_cap_mb=100' as keywords."""
    options: dict[str, Any] = {}
    for part in text.split(','):
        name, _, value = part.partition('=')
        if part == 'overlap=False':
            options['bucket_cap_mb'] = 1 << 20  # more than any network has
        elif part == 'grad_compression=bf16':
            options[name] = 'bf16'
        elif name in DDP and name != 'grad_compression':
            options[name] = ast.literal_eval(value)
        else:
            names = 'overlap=False, grad_compression=bf16 and values of ' + ', '.join(DDP)
            raise argparse.ArgumentTypeError(f"--compare knows {names}, not '{part}'")
    return options


def parse_rate(text: str) -> float:
    """'1gbit' as bytes a second."""
    for unit, bits in UNITS.items():
        number = text.removesuffix(unit)
        if number != text and number.replace('.', '', 1).isdigit():
            return float(number) * bits / 8
    raise argparse.ArgumentTypeError(f"a rate such as 1gbit or 200mbit, not '{text}'")


def positive(text: str) -> float:
    """A number above 0."""
    if not 0 < float(text) < float('inf'):
        raise ValueError
    return float(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def contestants(args: argparse.Namespace) -> list[tuple[int, str, dict[str, Any] | None]]:
    """(processes, name, options of DistributedDataParallel), those of all processes last."""
    found: list[tuple[int, str, dict[str, Any] | None]] = []
    for ranks in sorted({1, *args.ranks}):
        found.append((ranks, 'one process' if ranks == 1 else 'no communication', None))
        if ranks > 1:
            found.append((ranks, 'DDP', DDP))
            found += [(ranks, text, {**DDP, **parse_options(text)}) for text in args.compare]
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the job; every reading of every contestant, round and rank."""
    options = [*(data_options(args) if args.data else []), *args.cfg_options]
    cfg = load_config(args.config[0], options)
    for name in ('model_wrapper_cfg', 'sync_bn'):
        if cfg.get(name) is not None:
            raise SystemExit(f'scaling: {name} is not read from a config here; use --compare')
    task = {
        'config': args.config[0],
        'options': [*options, f'trainer.accelerator={"gpu" if args.device == "cuda" else "cpu"}'],
        'device': args.device,
        'contestants': [(ranks, wrapped) for ranks, _, wrapped in contestants(args)],
        **{name: getattr(args, name) for name in NUMBERS},
    }
    processes = max(args.ranks)
    environment = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
        'KINETO_LOG_LEVEL': '9',
        'TORCH_CPP_LOG_LEVEL': 'ERROR',
    }
    torchrun = [sys.executable, '-m', 'torch.distributed.run']
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder, 'task.json')
        file.write_text(json.dumps(task))
        script = [str(RANK), str(file)]
        if args.link:
            environment['GLOO_SOCKET_IFNAME'] = 'eth0'
            where = [f'--master_addr={address(0)}', '--master_port=29500', f'--nnodes={processes}']
            commands = [
                ['ip', 'netns', 'exec', name, *torchrun, *where, f'--node_rank={i}', *script]
                for i, name in enumerate(stack.enter_context(nodes(processes, args.link)))
            ]
        else:
            commands = [[*torchrun, '--standalone', f'--nproc_per_node={processes}', *script]]
        jobs = [subprocess.Popen(command, env=environment) for command in commands]
        try:
            failed = any([job.wait() for job in jobs])
        finally:
            for job in jobs:
                job.terminate()
                job.wait()
        if failed:
            raise SystemExit('scaling: a process failed; see above')
        return json.loads(file.read_text())


def summarise(found: dict[str, Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every contestant."""
    rows: list[dict[str, Any]] = []
    gradients = found['parameters'] * 4
    for (ranks, name, wrapped), column in zip(contestants(args), found['readings'], strict=True):
        *rounds, shares = column
        batch = args.batch // ranks if args.strong else args.batch
        seconds = [max(reading['seconds'] for reading in ranks_) for ranks_ in rounds]
        row: dict[str, Any] = {'ranks': ranks, 'name': name, 'seconds': seconds}
        if wrapped is None:
            alone = seconds
            if ranks == 1:
                one = [s / batch for s in seconds]
        row['step_ms'] = [1e3 * q for q in quartiles(seconds)]
        row['processor_ms'] = 1e3 * statistics.median(
            statistics.mean(reading['processor'] for reading in ranks_) for ranks_ in rounds
        )
        row['others'] = [
            None if None in shares_ else max(shares_)
            for shares_ in ([reading['others'] for reading in ranks_] for ranks_ in rounds)
        ]
        row['samples_per_s'] = ranks * batch / statistics.median(seconds)
        row['efficiency'] = quartiles(
            [first / (s / batch) for first, s in zip(one, seconds, strict=True)]
        )
        row['data'] = statistics.mean(share['data'] for share in shares)
        row['communication'] = statistics.mean(share['communication'] for share in shares)
        if wrapped is not None:
            row['exposed_ms'] = quartiles(
                [1e3 * (s - a) for s, a in zip(seconds, alone, strict=True)]
            )
            sent = [reading['sent'] for ranks_ in rounds for reading in ranks_]
            row['sent_mb'] = statistics.median(sent) / 1e6
            if args.link:
                half = 2 if wrapped['grad_compression'] else 1
                whole = allreduce(gradients / half, ranks, parse_rate(args.link))
                hidden = BACKWARD * statistics.median(alone)
                row['predicted_ms'] = 1e3 * exposed(
                    gradients, whole, hidden, wrapped['bucket_cap_mb']
                )
        rows.append(row)
    return rows


def quartiles(values: list[float]) -> list[float]:
    """Lower, median, upper."""
    return statistics.quantiles(values, n=4, method='inclusive') if values[1:] else values * 3


def show(rows: list[dict[str, Any]], found: dict[str, Any], args: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    cpu = args.device == 'cpu'
    where = 'one thread and one core a process' if cpu else torch.cuda.get_device_name()
    batch = f'{args.batch} in all' if args.strong else f'{args.batch} a process'
    link = f', a link of {args.link} between them' if args.link else ''
    name = Path(args.config[0]).stem
    table = Table(
        title=f'{name}, batch {batch}, {args.workers} data workers, {where}{link}',
        caption=f'{found["parameters"] / 1e6:.2f} M parameters, gradients of '
        f'{found["parameters"] * 4 / 1e6:.1f} MB; {found["step"].partition(";")[0]}; {args.rounds} '
        f'rounds of {args.steps} steps{others(rows)}',
    )
    columns = ['step ms', 'quartiles', 'CPU ms', 'samples/s', 'efficiency', 'quartiles']
    columns += ['exposed ms', 'quartiles', *(['predicted', 'MB sent'] if args.link else [])]
    table.add_column('processes')
    table.add_column('', no_wrap=True)
    for name in (*columns, 'communication', 'data'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        crowded = cpu and row['ranks'] > cores
        cells = [f'{row["ranks"]}' + (f', oversubscribed: {cores} cores' if crowded else '')]
        cells += [row['name'], *spread(row['step_ms'], '.0f'), f'{row["processor_ms"]:.0f}']
        cells += [f'{row["samples_per_s"]:.1f}', *spread(row['efficiency'], '.2f')]
        more = [*spread(row['exposed_ms'], '.0f')] if 'exposed_ms' in row else ['', '']
        if args.link:
            known = 'predicted_ms' in row
            more += [f'{row["predicted_ms"]:.0f}', f'{row["sent_mb"]:.1f}'] if known else ['', '']
        table.add_row(*cells, *more, f'{row["communication"]:.0%}', f'{row["data"]:.0%}')
    Console(width=None if sys.stdout.isatty() else 190).print(table)


def others(rows: list[dict[str, Any]]) -> str:
    """What is known of other programs: nothing where ranks or workers share a core."""
    shares = [share for row in rows for share in row['others'] if share is not None]
    return (
        f'; other programs had {max(statistics.median(shares), 0):.0%} of a core' if shares else ''
    )


def spread(values: list[float], form: str) -> tuple[str, str]:
    """Median and quartiles."""
    return f'{values[1]:{form}}', f'{values[0]:{form}} .. {values[2]:{form}}'


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='+', help='one, or several for --estimate')
    parser.add_argument('--batch', type=count, default=32, help='of a process')
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    run = parser.add_argument_group('measurement')
    run.add_argument('--ranks', nargs='+', type=count, default=[1, 2])
    run.add_argument('--steps', type=count, default=5, help='of a turn')
    run.add_argument('--rounds', type=count, default=7)
    run.add_argument('--tries', type=count, default=3, help='of a turn that others disturb')
    run.add_argument('--compare', nargs='+', default=[], metavar='OPTION=VALUE[,...]')
    run.add_argument('--strong', action='store_true', help='--batch is that of all processes')
    run.add_argument('--link', help='1gbit, 200mbit, ...')
    run.add_argument('--workers', type=int, default=0, help='of the data, a process')
    run.add_argument('--device', choices=('cpu', 'cuda'))
    run.add_argument('--data', type=Path, help="a folder such as coco_mini, not the config's")
    guess = parser.add_argument_group('estimate')
    guess.add_argument('--estimate', action='store_true')
    guess.add_argument('--step-ms', type=positive, help='of one GPU, measured')
    guess.add_argument('--utilisation', type=positive, default=0.15, help='without --step-ms')
    guess.add_argument('--gpus', nargs='+', type=count, default=[8, 16, 32, 64])
    guess.add_argument('--gpus-per-node', type=count, default=8)
    guess.add_argument('--link-gbit', nargs='+', type=positive, default=[400, 200, 100, 25, 10])
    guess.add_argument(
        '--samples-per-core', type=positive, default=1326, help='of data; see docs/speed.md'
    )
    args = parser.parse_args(arguments)
    args.device = args.device or ('cuda' if torch.cuda.is_available() and not args.link else 'cpu')
    try:
        for text in args.compare:
            parse_options(text)
        if args.link:
            parse_rate(args.link)
    except (argparse.ArgumentTypeError, ValueError, SyntaxError) as error:
        parser.error(str(error))
    if not args.estimate and len(args.config) > 1:
        parser.error('one config at a time is measured')
    if args.link and args.device == 'cuda':
        parser.error('--link: on the CPU only (--device cpu)')
    if args.strong and any(args.batch % ranks for ranks in args.ranks):
        parser.error(f'--strong: a batch of {args.batch} is not divisible by every --ranks')
    return args


def main() -> None:
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no process or namespace stays
    if args.estimate:
        rows = estimate(args)
        show_estimate(rows, args)
    else:
        found = measure(args)
        rows = summarise(found, args)
        show(rows, found, args)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()
