"""Train many steps with several processes and watch memory and open files: nothing may grow.

    python benchmarks/soak.py                        # 10,000 steps, two processes: about 15 minutes

Real processes of torchrun with a worker each, on rendered people, with an evaluation and a
checkpoint every epoch. Resident memory and descriptors are read from /proc, of the ranks and of
their workers. The exit status says whether the last tenth of the readings stays within the
tolerance of those after the warm-up.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from psa_pose.datasets.synthetic import render_dataset

ROOT = Path(__file__).parent.parent
CONFIG = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
EVERY = 2.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=10_000)
    parser.add_argument('--ranks', type=int, default=2)
    parser.add_argument('--batch', type=int, default=4, help='of one rank')
    parser.add_argument('--images', type=int, default=300)
    parser.add_argument('--tolerance', type=float, default=0.02, help='growth of memory: 0.02')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        readings, last_step, status = soak(Path(folder), args)
    if status or last_step < args.steps:
        print(f'ended at step {last_step} of {args.steps}, exit status {status}')
        return 1
    if args.json:
        args.json.write_text(json.dumps(readings) + '\n')
    return report(readings, args)


def soak(folder: Path, args: argparse.Namespace) -> tuple[list[dict], int, int]:
    """Readings, {'step', 'rss': MB by process, 'files': by process}; last step; exit status."""
    for split, count in (('train', args.images), ('val', 20)):
        render_dataset(folder / 'data', split, count, 0)
    log = folder / 'log.txt'
    persons = len(
        json.loads((folder / 'data/annotations/person_keypoints_train.json').read_text())[
            'annotations'
        ]
    )
    epochs = -(-args.steps // (persons // (args.batch * args.ranks)))
    options = [
        f'train_dataloader.dataset.data_root={folder}/data',
        f'val_dataloader.dataset.data_root={folder}/data',
        f'train_dataloader.batch_size={args.batch}',
        'train_dataloader.num_workers=1',
        'val_dataloader.num_workers=1',
        f'train_cfg.max_epochs={epochs}',
        'train_cfg.val_interval=1',
        'default_hooks.logger.interval=10',
    ]
    command = [
        *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
        f'--nproc_per_node={args.ranks}',
        *('tools/train.py', CONFIG, '--work-dir', str(folder / 'run'), '--cfg-options', *options),
    ]
    threads = max(len(os.sched_getaffinity(0)) // args.ranks, 1)
    readings: list[dict] = []
    step = 0
    with log.open('w') as file:
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': str(threads)},
        )
        try:
            while run.poll() is None:
                time.sleep(EVERY)
                found = re.findall(r'step (\d+)/', log.read_text())
                step = int(found[-1]) if found else 0
                if step:
                    readings.append({'step': step, **_read(run.pid)})
                    print(f'\rstep {step}', end='', flush=True)
        finally:
            run.terminate()  # it ends its ranks
            run.wait()
    print()
    if run.returncode:
        print(log.read_text()[-3000:])
    return readings, step, run.returncode


def _read(launcher: int) -> dict:
    """Of the ranks and their workers, by name."""
    rss, files = {}, {}
    for rank, pid in enumerate(_children(launcher)):
        for name, process in ((f'rank {rank}', pid), *_workers(rank, pid)):
            try:
                status = Path(f'/proc/{process}/status').read_text()
                files[name] = len(os.listdir(f'/proc/{process}/fd'))
                rss[name] = int(status.split('VmRSS:')[1].split()[0]) / 1024
            except (OSError, IndexError):  # it has just ended
                continue
    return {'rss': rss, 'files': files}


def _workers(rank: int, pid: int) -> list[tuple[str, int]]:
    return [(f'rank {rank} child {i}', child) for i, child in enumerate(_children(pid))]


def _children(pid: int) -> list[int]:
    try:
        return sorted(int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
    except OSError:
        return []


def report(readings: list[dict], args: argparse.Namespace) -> int:
    """Print, by process, the medians after the warm-up and at the end; 1 where one has grown."""
    end = readings[-1]['step']
    early = [r for r in readings if 0.1 * end <= r['step'] < 0.2 * end]
    late = [r for r in readings if r['step'] >= 0.9 * end]
    grown = False
    print(f'{end} steps, {args.ranks} ranks; medians of steps 10-20 % and of the last 10 %')
    print(f'{"process":<18}{"MB":>9}{"MB":>9}{"growth":>9}{"files":>8}{"files":>7}')
    seen = [{name for r in part for name in r['rss']} for part in (early, late)]
    names = seen[0] & seen[1]
    for name in sorted(names):
        memory = [
            statistics.median(r['rss'][name] for r in part if name in r['rss'])
            for part in (early, late)
        ]
        files = [
            statistics.median(r['files'][name] for r in part if name in r['files'])
            for part in (early, late)
        ]
        growth = memory[1] / memory[0] - 1
        grown |= growth > args.tolerance or files[1] > files[0]
        print(
            f'{name:<18}{memory[0]:>9.1f}{memory[1]:>9.1f}{growth:>9.2%}{files[0]:>8.0f}{files[1]:>7.0f}'
        )
    print(
        'grown'
        if grown
        else f'nothing grew by more than {args.tolerance:.0%}, no descriptor was left open'
    )
    return int(grown)


if __name__ == '__main__':
    sys.exit(main())
