"""The data pipeline beside MMPose's: from image files to batches, samples a second of a core.

    python benchmarks/pipeline.py --json pipeline.json

Real images (../shared/data): COCO's, under so many names that an epoch is as long as a real one's
beginning, and Leeds Sports Pose Extended's, one person each. Both sides get the same files, the
same augmentation (flip, half body, shift, scale, rotation) and crops of 192x256. MMPose makes its
heatmaps in the worker, as its configs do; here they are made on the device, so that is no part of
this pipeline. Ours ends with collated tensors, MMPose's with the list that its collate function
makes: it stacks on the device's side.

Three arrangements: `in process`, one core does all; `1 worker`, as in training, where a worker
hands its batches to the training process; and `decoding every person`, ours without sharing.

Time is what the processes (a worker included) spent on a processor, so waiting for another
program's turn does not count, and samples a second are those of a core. Turns alternate; a ratio
is the median over rounds of the ratios within one round. The breakdown is of the samples in
process, in microseconds a sample.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import cv2
import torch
from peer import MISSING, PYTHON, Peer, serve, versions

DATA = Path(__file__).parents[2] / 'shared' / 'data'
SIZE = (192, 256)
COPIES = 30
AUGMENTATION = [
    {'type': 'RandomFlip'},
    {'type': 'RandomHalfBody'},
    {'type': 'RandomBBoxTransform'},
]
ANNOTATIONS = {
    'coco_mini': 'annotations/person_keypoints_train.json',
    'lspet': 'annotations/lspet_train.json',
}


def enlarged(data: Path, root: Path) -> Path:
    """A COCO with each image of coco_mini under `COPIES` names."""
    content = json.loads((data / 'coco_mini' / ANNOTATIONS['coco_mini']).read_text())
    images, annotations = [], []
    for copy in range(COPIES):
        for image in content['images']:
            name = f'{copy}_{image["file_name"]}'
            (root / name).symlink_to(data / 'coco_mini' / 'images' / image['file_name'])
            images.append({**image, 'id': image['id'] * COPIES + copy, 'file_name': name})
        for annotation in content['annotations']:
            moved = {
                'id': annotation['id'] * COPIES + copy,
                'image_id': annotation['image_id'] * COPIES + copy,
            }
            annotations.append({**annotation, **moved})
    path = root / 'annotations.json'
    path.write_text(json.dumps({**content, 'images': images, 'annotations': annotations}))
    return path


def our_loader(name: str, ann_file: str, images: str, batch: int, workers: int, cache: int) -> Any:
    from psa_pose.datasets import CocoStyleDataset, PoseDataLoader

    pipeline = [{'type': 'LoadImage', 'cache': cache}, *AUGMENTATION, {'type': 'TopdownAffine'}]
    dataset = CocoStyleDataset(ann_file, pipeline, SIZE, data_prefix={'img': images})
    return PoseDataLoader(dataset, batch, train=True, num_workers=workers)


def mmposes_loader(name: str, ann_file: str, images: str, batch: int, workers: int) -> Any:
    from mmengine.dataset import pseudo_collate, worker_init_fn
    from mmpose.registry import DATASETS
    from mmpose.utils import register_all_modules

    register_all_modules()
    codec = {'type': 'MSRAHeatmap', 'input_size': SIZE, 'heatmap_size': (48, 64), 'sigma': 2}
    pipeline = [
        {'type': 'LoadImage'},
        {'type': 'GetBBoxCenterScale'},
        *AUGMENTATION,
        {'type': 'TopdownAffine', 'input_size': SIZE},
        {'type': 'GenerateTarget', 'target_type': 'heatmap', 'encoder': codec},
        {'type': 'PackPoseInputs'},
    ]
    pipeline[2] = {**pipeline[2], 'direction': 'horizontal'}
    dataset = DATASETS.build(
        {
            'type': 'CocoDataset',
            'ann_file': ann_file,
            'data_prefix': {'img': images},
            'data_mode': 'topdown',
            'pipeline': pipeline,
            **({'metainfo': metainfo(ann_file)} if name == 'lspet' else {}),
        }
    )
    return torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
        worker_init_fn=partial(worker_init_fn, num_workers=workers, rank=0, seed=0),
    )


def metainfo(ann_file: str) -> dict[str, Any]:
    """What MMPose wants to know of keypoints that are not COCO's."""
    (category,) = json.loads(Path(ann_file).read_text())['categories']
    names = category['keypoints']
    sides = {'left': 'right', 'right': 'left'}

    def mirrored(name: str) -> str:
        side, _, part = name.partition('_')
        return f'{sides[side]}_{part}' if side in sides else ''

    lower = ('hip', 'knee', 'ankle')
    return {
        'dataset_name': 'lspet',
        'keypoint_info': {
            i: {
                'name': name,
                'id': i,
                'color': [0, 0, 0],
                'type': 'lower' if name.endswith(lower) else 'upper',
                'swap': mirrored(name),
            }
            for i, name in enumerate(names)
        },
        'skeleton_info': {},
        'joint_weights': [1.0] * len(names),
        'sigmas': category['sigmas'],
    }


class Side:
    """One implementation: loaders by arrangement, each read on and on."""

    def __init__(self, loaders: dict[str, Any]) -> None:
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        self.streams: dict[str, Iterator[Any]] = {}
        self.spent: dict[str, float] = {}
        self.stages: dict[str, dict[str, float]] = {}
        for name, loader in loaders.items():
            steps = loader.dataset.pipeline
            steps = getattr(steps, 'transforms', steps)
            steps[:] = [timed(step, type(step).__name__, self.spent) for step in steps]
            loader.collate_fn = timed(loader.collate_fn, 'collate', self.spent)
            self.streams[name] = forever(loader)

    def seconds(self, arrangement: str, batches: int, warm_up: int) -> float:
        """Processor time of so many batches, those before not counted."""
        stream = self.streams[arrangement]
        for _ in range(warm_up):
            next(stream)
        self.spent.clear()
        start = processor_seconds()
        for _ in range(batches):
            next(stream)
        elapsed = processor_seconds() - start
        for stage, value in [*self.spent.items(), ('rest', elapsed - sum(self.spent.values()))]:
            stages = self.stages.setdefault(arrangement, {})
            stages[stage] = stages.get(stage, 0.0) + value
        return elapsed

    def breakdown(self, arrangement: str) -> dict[str, float]:
        """Seconds of all turns by stage; `rest` is what no stage accounts for."""
        return self.stages[arrangement]


def forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def timed(step: Callable[[Any], Any], name: str, spent: dict[str, float]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        start = time.process_time()
        try:
            return step(value)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - start

    return run


def processor_seconds() -> float:
    """Of this process and those that it started."""
    ticks = 0
    for child in active_children():
        fields = Path(f'/proc/{child.pid}/stat').read_text().rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system, of all its threads
    return time.process_time() + ticks / os.sysconf('SC_CLK_TCK')


def our_side(name: str, files: list[str], batch: int) -> Side:
    arrangements = {'in process': (0, 512), '1 worker': (1, 512), 'decoding every person': (0, 0)}
    return Side(
        {key: our_loader(name, *files, batch, *value) for key, value in arrangements.items()}
    )


def mmposes_side(name: str, files: list[str], batch: int) -> Side:
    workers = {'in process': 0, '1 worker': 1}
    return Side({key: mmposes_loader(name, *files, batch, n) for key, n in workers.items()})


def mmposes_answers(files: dict[str, list[str]], batch: int) -> Callable[..., Any]:
    sides = {name: mmposes_side(name, paths, batch) for name, paths in files.items()}
    return lambda dataset, what, **options: getattr(sides[dataset], what)(**options)


def measure(name: str, ours: Side, peer: Peer, args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    samples = args.batches * args.batch
    for key in ours.streams:
        theirs_key = key if key != 'decoding every person' else 'in process'
        turns = []
        for round_ in range(args.rounds):
            # An epoch begins with images that nobody has decoded yet; workers run ahead by two.
            turn = {'batches': args.batches, 'warm_up': 4 if round_ else 24}
            mine = ours.seconds(key, **turn)
            theirs = peer.ask(dataset=name, what='seconds', arrangement=theirs_key, **turn)
            turns.append((mine, theirs))
        ratios = [theirs / mine for mine, theirs in turns]
        low, middle, high = statistics.quantiles(ratios, n=4, method='inclusive')
        rows.append(
            {
                'images': name,
                'arrangement': key,
                'samples_per_s': samples / statistics.median(mine for mine, _ in turns),
                'mmpose_samples_per_s': samples / statistics.median(theirs for _, theirs in turns),
                'ratio': middle,
                'quartiles': (low, high),
            }
        )
    return rows


def show(rows: list[dict[str, Any]], stages: dict[str, Any], caption: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title='samples a second', caption=caption)
    for column in ('images', 'arrangement'):
        table.add_column(column, no_wrap=True)
    for column in ('ours', 'MMPose', 'ratio', 'quartiles'):
        table.add_column(column, justify='right', no_wrap=True)
    for row in rows:
        low, high = row['quartiles']
        table.add_row(
            row['images'],
            row['arrangement'],
            f'{row["samples_per_s"]:.0f}',
            f'{row["mmpose_samples_per_s"]:.0f}',
            f'{"[bold]" if row["ratio"] >= 4 else "[red]"}{row["ratio"]:.1f}x',
            f'{low:.1f}-{high:.1f}',
        )
    console.print(table)
    for name, (ours, theirs) in stages.items():
        table = Table(title=f'{name}: microseconds a sample, in process')
        table.add_column('stage')
        for column in ('ours', 'MMPose'):
            table.add_column(column, justify='right')
        for stage in dict.fromkeys([*theirs, *ours]):
            cells = [f'{side[stage]:.0f}' if stage in side else '' for side in (ours, theirs)]
            table.add_row(stage, *cells)
        table.add_section()
        table.add_row('sum', *(f'{sum(side.values()):.0f}' for side in (ours, theirs)))
        console.print(table)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--peer', type=Path, default=PYTHON, help='Python that has MMPose')
    parser.add_argument('--data', type=Path, default=DATA, help='folder of coco_mini and lspet')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--batches', type=int, default=30, help='of a turn')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--serve', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error('--rounds: at least 2, for quartiles')
    return args


def main() -> None:
    args = parse_args()
    if args.serve:
        serve(lambda: mmposes_answers(json.loads(args.serve), args.batch))
        return
    for needed, why in ((args.peer, MISSING), (args.data, 'skipped: {} is missing')):
        if not needed.exists():
            print(why.format(needed))
            return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data.resolve()
        files = {
            'coco_mini': [str(enlarged(data, Path(folder))), folder],
            'lspet': [str(data / 'lspet' / ANNOTATIONS['lspet']), str(data / 'lspet' / 'images')],
        }
        ours = {name: our_side(name, paths, args.batch) for name, paths in files.items()}
        command = (__file__, '--batch', str(args.batch), '--serve', json.dumps(files))
        with Peer(args.peer, *command) as peer:
            rows, stages = [], {}
            for name, side in ours.items():
                rows += measure(name, side, peer, args)
                question = {'arrangement': 'in process'}
                parts = (
                    side.breakdown(**question),
                    peer.ask(dataset=name, what='breakdown', **question),
                )
                count = args.rounds * args.batches * args.batch
                stages[name] = [{k: v / count * 1e6 for k, v in part.items()} for part in parts]
            mine = versions('psa_pose')
            sides = [', '.join(f'{k} {v}' for k, v in s.items()) for s in (mine, peer.versions)]
            show(rows, stages, ' | '.join(sides))
            if args.json:
                content = {
                    'versions': mine,
                    'mmpose_versions': peer.versions,
                    'rows': rows,
                    'stages': stages,
                }
                args.json.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
