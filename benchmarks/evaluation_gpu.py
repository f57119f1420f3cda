"""Evaluation on a GPU, from loaded batches to AP, beside a stand-in for MMPose's way.

    python benchmarks/evaluation_gpu.py --device cuda --batch 64 --json evaluation.json

`evaluation.py` is beside the real MMPose, on a CPU. Where a GPU is MMPose may not be installed, so
the stand-in does what it does, with our weights: NCHW, eager float32, the mirrored crops in a
forward of their own, every batch's heatmaps to the host, and there NumPy, person by person and
keypoint by keypoint, to find and refine the maxima. What it leaves out of MMPose (its data samples,
its hooks) would take it more time.

Ours is the Trainer, module and metric of `tools/test.py`, in float32 and in half precision
(`val_cfg.fp16`). The images are decoded and cut out before, once for all: a loader's speed is
another benchmark's (`pipeline.py`). Time is wall clock between two synchronisations, metric
included. Turns alternate; a ratio is the median over rounds of the ratios within one round.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from device import TF32, synchronize, where, write
from evaluation import SPLITS, make_weights
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from train_speed import CONFIGS, DATA

from psa_pose.engine import build
from psa_pose.engine.config import load_config
from psa_pose.engine.module import PoseModule
from psa_pose.engine.ranks import Ranks
from psa_pose.engine.step import step_options
from psa_pose.engine.trainer import build_trainer
from psa_pose.models.checkpoints import load_checkpoint


class Stopwatch(L.Callback):
    """Of a test's batches and metric: what comes before and after is once a run."""

    def on_test_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        synchronize(trainer.strategy.root_device.type)
        self.start = time.perf_counter()

    def on_test_end(self, trainer: L.Trainer, *_: Any) -> None:
        synchronize(trainer.strategy.root_device.type)
        self.seconds = time.perf_counter() - self.start


class Ours:
    def __init__(self, network: str, options: list[str], fp16: bool) -> None:
        cfg = load_config(CONFIGS[network], [*options, f'val_cfg.fp16={fp16}'])
        step = step_options(cfg, training=False)
        self.dataset = build.build_dataset(cfg, 'val_dataloader')
        self.estimator = build.build_model(cfg, self.dataset.info)
        load_checkpoint(self.estimator, cfg.load_from, strict=True)
        self.metric = build.build_metric(cfg, 'val_evaluator', self.dataset)
        self.module = PoseModule(self.estimator, self.metric, step)
        self.watch = Stopwatch()
        self.trainer = build_trainer(
            cfg,
            step,
            Ranks(),
            plain=True,
            logger=False,
            enable_checkpointing=False,
            callbacks=[self.watch],
        )
        self.loader = build.build_loader(cfg, 'val_dataloader', self.dataset, self.trainer)

    def run(self, batches: list[Any]) -> float:
        loader = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
        self.trainer.test(self.module, loader, verbose=False)
        return self.watch.seconds


class StandIn:
    """See the head of this file."""

    def __init__(self, ours: Ours, device: str) -> None:
        self.model = copy.deepcopy(ours.estimator).use_channels_last(False).to(device).eval()
        self.metric, self.device = copy.deepcopy(ours.metric), device

    def run(self, batches: list[Any]) -> float:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False  # as MMPose's configs have it
        synchronize(self.device)
        start = time.perf_counter()
        self.metric.reset()
        for batch in batches:
            heatmaps = self.heatmaps(batch.crop.to(self.device, non_blocking=True))
            found = [self.decoded(maps) for maps in heatmaps.cpu().numpy()]
            points, scores = (np.stack(parts) for parts in zip(*found, strict=True))
            affine = batch.to_image.numpy()
            points = points @ affine[..., :2].swapaxes(1, 2) + affine[:, None, :, 2]
            self.metric.process(batch.person.numpy(), batch.usable.numpy(), points, scores)
        self.metric.compute()
        synchronize(self.device)
        torch.backends.cudnn.benchmark = before
        return time.perf_counter() - start

    @torch.inference_mode()
    def heatmaps(self, crop: torch.Tensor) -> torch.Tensor:
        model = self.model
        images = model.data_preprocessor(crop)
        return model.mean_of_both(model(images), model(images.flip(-1)))

    def decoded(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of one person, K x 2 in crop pixels, and scores."""
        count, height, width = maps.shape
        flat = maps.reshape(count, -1)
        places, scores = flat.argmax(1), flat.max(1)
        points = np.stack([places % width, places // width], 1).astype(np.float32)
        points[scores <= 0] = -1
        for k in range(count):  # a quarter of a pixel towards the higher neighbour
            x, y = points[k].astype(int)
            if 1 < x < width - 1 and 0 < y < height:
                points[k, 0] += 0.25 * np.sign(maps[k, y, x + 1] - maps[k, y, x - 1])
            if 1 < y < height - 1 and 0 < x < width:
                points[k, 1] += 0.25 * np.sign(maps[k, y + 1, x] - maps[k, y - 1, x])
        return points * np.float32(self.model.codec.stride), scores


def same_share(a: dict[int, Any], b: dict[int, Any]) -> float:
    """Of keypoints less than half a pixel apart.

    Ours differ besides where a maximum is in the last row or column, see `MSRAHeatmap`.
    """
    pairs = [(a[i][0], b[i][0]) for i in a]
    return float(np.mean([np.linalg.norm(p - q, axis=-1) < 0.5 for p, q in pairs]))


def measure(network: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Rows of one network, ratios to the stand-in."""
    weights = folder / f'{network}.pth'
    options = [
        f'val_dataloader.dataset.data_root={args.data.resolve()}',
        f'val_dataloader.dataset.ann_file={SPLITS[args.split]}',
        'val_dataloader.dataset.data_prefix.img=images/',
        f'val_dataloader.batch_size={args.batch}',
        'val_dataloader.num_workers=0',
        'model.test_cfg.flip_test=True',
        f'trainer.accelerator={"cpu" if args.device == "cpu" else "gpu"}',
        f'work_dir={folder}',
        f'load_from={weights}',
    ]
    make_weights(CONFIGS[network], options, weights)
    sides: dict[str, Any] = {
        'float32': Ours(network, options, fp16=False),
        'half': Ours(network, options, fp16=True),
    }
    sides = {'stand-in': StandIn(sides['float32'], args.device), **sides}
    batches = list(sides['float32'].loader) * args.repeat
    persons = sum(len(batch.crop) for batch in batches)
    rounds = [{n: side.run(batches) for n, side in sides.items()} for _ in range(args.rounds + 1)]
    rows = []
    for name, side in sides.items():
        taken = [r[name] for r in rounds[1:]]  # the first warms up
        rows.append(
            {
                'network': network,
                'side': name,
                'persons_per_s': persons / statistics.median(taken),
                'ratio': statistics.median(r['stand-in'] / r[name] for r in rounds[1:]),
                'same_share': same_share(
                    sides['stand-in'].metric.predictions, side.metric.predictions
                ),
            }
        )
    return rows


def show(rows: list[dict[str, Any]], title: str, note: str | None) -> None:
    table = Table(title=title, caption=note)
    for column in ('network', 'side', 'persons/s', 'ratio', 'same within 0.5 px'):
        table.add_column(column, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            row['network'],
            "MMPose's way, a stand-in" if row['side'] == 'stand-in' else row['side'],
            f'{row["persons_per_s"]:.0f}',
            f'{row["ratio"]:.2f}x',
            f'{row["same_share"]:.2%}',
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--split', choices=SPLITS, default='train')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--networks', nargs='+', choices=CONFIGS, default=['simplebaseline_r50', 'hrnet_w32']
    )
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeat', type=int, default=5, help='times that a run sees every person')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--json', type=Path, help='write every number here')
    args = parser.parse_args()
    if not args.data.is_dir():
        raise SystemExit(f'{args.data} is missing: name the folder with --data')
    here, rows = where(args.device, batch=args.batch), []
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks:
            rows += measure(network, args, Path(folder))
            write(args.json, here, rows)
    show(rows, f'evaluation, {here["device"]}', TF32 if args.device == 'cuda' else None)


if __name__ == '__main__':
    main()
