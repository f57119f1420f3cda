"""How a step of data-parallel training grows with the number of GPUs: `scaling.py --estimate`.

A ring all-reduce over n ranks sends 2 (n-1)/n times the gradients out of every rank and as much
into it (Patarasuk & Yuan 2009). DistributedDataParallel starts it bucket by bucket while the
backward still runs, so a step waits for the last bucket, or for all that the backward is too short
for.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from psa_pose.engine.info import config_cost

BACKWARD = 2 / 3  # of a step: twice the multiply-adds of a forward
NVLINK = 450e9  # bytes a second and direction of an H100's 18 links
H100 = 989e12  # bfloat16 FLOP a second, without sparsity: NVIDIA's data sheet
COCO_PERSONS = 149_813  # of train2017 that the field trains on
BUCKET_MB = 25  # DistributedDataParallel's default


def allreduce(gradient_bytes: float, ranks: int, bytes_per_second: float) -> float:
    """Seconds of a ring all-reduce, without latency."""
    return 2 * (ranks - 1) / ranks * gradient_bytes / bytes_per_second


def exposed(
    gradient_bytes: float, communication: float, backward: float, bucket_mb: float = BUCKET_MB
) -> float:
    """Seconds that a step waits for communication.

    Gradients come evenly over the backward, which is cautious: HRNet's last stage, three quarters
    of them, is the first to have its own. A bucket is sent when it is full and those before are
    through; the last has what is left.

    Args:
        gradient_bytes: before compression, as buckets are measured.
        communication: seconds for all of them.
        backward: seconds.
        bucket_mb: MiB of a bucket.
    """
    through = filled = 0.0
    while filled < 1:
        size = min(bucket_mb * 2**20 / gradient_bytes, 1 - filled)
        filled += size
        through = max(through, filled * backward) + size * communication
    return through - backward


def step_seconds(macs: int, batch: int, utilisation: float, peak: float = H100) -> float:
    """Of a GPU at a share of its peak: a step is three forwards, a multiply-add 2 FLOP."""
    return 3 * 2 * macs * batch / (peak * utilisation)


@dataclass(frozen=True)
class Estimate:
    """A step on several GPUs.

    Attributes:
        parameters: that train.
        step: seconds of a step on one GPU.
        gpus: in all.
        link: bytes a second and direction of a machine's network, all its cards together.
        per_node: GPUs of a machine.
        gradient_bytes: of one parameter: 4, or 2 with compressed gradients.
    """

    parameters: int
    step: float
    gpus: int
    link: float
    per_node: int = 8
    gradient_bytes: int = 4

    @property
    def communication(self) -> float:
        """Seconds of the all-reduce; its rings leave each machine once, through its network."""
        slowest = min(NVLINK, self.link) if self.gpus > self.per_node else NVLINK
        return allreduce(self.parameters * self.gradient_bytes, self.gpus, slowest)

    @property
    def exposed(self) -> float:
        """Seconds of it that a step waits for."""
        return exposed(self.parameters * 4, self.communication, BACKWARD * self.step)

    @property
    def efficiency(self) -> float:
        """Samples a second of a GPU, relative to one alone."""
        return self.step / (self.step + self.exposed)

    @property
    def crossover(self) -> float:
        """Bytes a second of a link on which the all-reduce takes as long as the backward."""
        sent = allreduce(self.parameters * self.gradient_bytes, self.gpus, 1)
        return sent / (BACKWARD * self.step)


def estimate(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows for every config, number of GPUs and link, with float32 gradients and with bfloat16."""
    rows = []
    for name in args.config:
        cost = config_cost(name, args.cfg_options)
        parameters, macs = cost['parameters']['total'], cost['macs']['total']
        step = (args.step_ms or 0) / 1e3 or step_seconds(macs, args.batch, args.utilisation)
        for gpus in args.gpus:
            for gbit in args.link_gbit if gpus > args.gpus_per_node else args.link_gbit[:1]:
                options = (parameters, step, gpus, gbit * 1e9 / 8, args.gpus_per_node)
                full, half = (Estimate(*options, gradient_bytes=n) for n in (4, 2))
                inside = gpus <= args.gpus_per_node
                took = step + full.exposed
                rows.append(
                    {
                        'config': Path(name).stem,
                        'gradients_mb': parameters * 4 / 1e6,
                        'gpus': gpus,
                        'link_gbit': None if inside else gbit,
                        'step_ms': 1e3 * step,
                        'allreduce_ms': 1e3 * full.communication,
                        'exposed_ms': 1e3 * full.exposed,
                        'efficiency': full.efficiency,
                        'bf16_exposed_ms': 1e3 * half.exposed,
                        'bf16_efficiency': half.efficiency,
                        'crossover_gbit': full.crossover * 8 / 1e9,
                        'samples_per_s': gpus * args.batch / took,
                        'cores_a_gpu': args.batch / took / args.samples_per_core,
                        'epoch_s': COCO_PERSONS // (gpus * args.batch) * took,
                    }
                )
    return rows


def show_estimate(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    how = (
        f'{args.step_ms:g} ms as given'
        if args.step_ms
        else f'assumed: {args.utilisation:.0%} of the peak of an H100 in bfloat16'
    )
    caption = (
        'bf16: with compressed gradients; crossover: on this link the all-reduce takes as long as '
        'the backward; cores: that data takes; epoch: of COCO train2017'
    )
    table = Table(title=f'Estimate. Batch {args.batch} a GPU; step: {how}', caption=caption)
    columns = {
        'config': ('config', '{}'),
        'gradients_mb': ('gradients\nMB', '{:.0f}'),
        'gpus': ('GPUs', '{}'),
        'link_gbit': ('link\nGbit/s', '{:g}'),
        'step_ms': ('step\nms', '{:.1f}'),
        'allreduce_ms': ('all-reduce\nms', '{:.1f}'),
        'exposed_ms': ('exposed\nms', '{:.1f}'),
        'efficiency': ('efficiency', '{:.2f}'),
        'bf16_exposed_ms': ('bf16: exposed\nms', '{:.1f}'),
        'bf16_efficiency': ('efficiency', '{:.2f}'),
        'crossover_gbit': ('crossover\nGbit/s', '{:.0f}'),
        'samples_per_s': ('samples/s', '{:.0f}'),
        'cores_a_gpu': ('cores\na GPU', '{:.1f}'),
        'epoch_s': ('epoch\ns', '{:.1f}'),
    }
    for name, _ in columns.values():
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        cells = (
            'NVLink' if row[key] is None else form.format(row[key])
            for key, (_, form) in columns.items()
        )
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 170).print(table)
