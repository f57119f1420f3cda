"""Evaluation beside MMPose's, end to end: from image files to COCO's AP, with the same weights.

    python benchmarks/evaluation.py --networks simplebaseline_r50 hrnet_w32 --json evaluation.json

Real images (../shared/data/coco_mini), boxes of the ground truth, crops of 192x256, flip test.
The weights are made here from a fixed seed, their BatchNorm set to what the images give so that
heatmaps are no constants, and reach MMPose under its own names. Each side runs its own loop in
one process on one thread: MMPose 1.1 its runner's test loop (dataset, pipeline, model, CocoMetric),
this project the Trainer, module and metric of `tools/test.py`, in float32 and once more in bfloat16
(`val_cfg.fp16`) to say what that changes. The answers are compared keypoint by keypoint: the
networks are equal to the bit, but crops of OpenCV 5 are not those of the peer's OpenCV 4
(`exactness.py` has both sides use one).

Time is what a process spent on its processor, so another program's turn does not count. Turns
alternate; a ratio is the median over rounds of the ratios within one round. The breakdown is a
person's, in milliseconds: its image and crop, the network (both crops), heatmaps to keypoints
with everything around them, and the metric.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer import MISSING, PYTHON, Peer, serve, versions

DATA = Path(__file__).parents[2] / 'shared' / 'data' / 'coco_mini'
NETWORKS = {
    'hrnet_w32': 'td-hm_hrnet-w32_8xb64-210e_coco-256x192',
    'simplebaseline_r50': 'td-hm_res50_8xb64-210e_coco-256x192',
}
SPLITS = {s: f'annotations/person_keypoints_{s}.json' for s in ('dev', 'train')}


class Clock:
    """Processor seconds by stage; `total` is all of them and what no stage accounts for."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[stage] = self.spent.get(stage, 0.0) + time.process_time() - start

        return run


class MMPoseSide:
    """MMPose's runner on its own config."""

    def __init__(self, network: str, weights: str, data: str, split: str, batch: int) -> None:
        import mmpose
        from mmengine.config import Config
        from mmengine.runner import Runner
        from mmpose.utils import register_all_modules

        register_all_modules()
        folder = Path(mmpose.__file__).parent / '.mim/configs/body_2d_keypoint/topdown_heatmap'
        cfg = Config.fromfile(folder / 'coco' / f'{NETWORKS[network]}.py')
        cfg.model.backbone.init_cfg = None
        cfg.work_dir, cfg.log_level = tempfile.mkdtemp(), 'ERROR'
        cfg.default_hooks.logger.interval = 10**6
        loader = cfg.test_dataloader
        loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=data, ann_file=SPLITS[split], data_prefix=dict(img='images/'), bbox_file=None
        )
        cfg.test_evaluator.ann_file = str(Path(data, SPLITS[split]))
        self.runner = Runner.from_cfg(cfg)
        state = torch.load(weights, weights_only=True)['state_dict']
        self.runner.model.load_state_dict(state, strict=False)
        assert state.keys() == self.runner.model.state_dict().keys()
        self.runner.call_hook('before_run')

    def run(self, **_: Any) -> dict[str, Any]:
        clock, runner = Clock(), self.runner
        loop, model = runner.test_loop, runner.model
        dataset, metric = loop.dataloader.dataset, loop.evaluator.metrics[0]
        found: dict[int, Any] = {}
        plain = type(dataset).__getitem__, type(metric).compute_metrics, type(metric).process
        forward, process = type(model).extract_feat, metric.process

        def keep(batch: Any, samples: Any) -> None:
            process(batch, samples)
            for sample in samples:
                person = sample['pred_instances']
                found[int(sample['id'])] = (person['keypoints'][0], person['keypoint_scores'][0])

        try:
            type(dataset).__getitem__ = clock.timed(plain[0], 'image')
            type(metric).compute_metrics = clock.timed(plain[1], 'metric')
            type(model).extract_feat = clock.timed(forward, 'network')
            head = type(model.head).forward
            type(model.head).forward = clock.timed(head, 'network')
            metric.process = clock.timed(keep, 'metric')
            start = time.process_time()
            numbers = loop.run()
            total = time.process_time() - start
        finally:
            type(dataset).__getitem__, type(metric).compute_metrics = plain[:2]
            type(model).extract_feat, type(model.head).forward = forward, head
            metric.process = process
        ids = sorted(found)
        return {
            'total': total,
            **clock.spent,
            'ap': numbers['coco/AP'],
            'ids': ids,
            'keypoints': [found[i][0].tolist() for i in ids],
            'scores': [found[i][1].tolist() for i in ids],
        }


class OurSide:
    """This project on its own config."""

    def __init__(self, network: str, weights: str, data: str, split: str, batch: int) -> None:
        from psa_pose.engine.config import load_config

        self.weights = weights
        self.options = {
            'config': f'coco/{network}_256x192.py',
            'changes': [
                f'val_dataloader.dataset.data_root={data}',
                f'val_dataloader.dataset.ann_file={SPLITS[split]}',
                'val_dataloader.dataset.data_prefix.img=images/',
                f'val_dataloader.batch_size={batch}',
                'val_dataloader.num_workers=0',
                'trainer.accelerator=cpu',
                'trainer.enable_progress_bar=False',
                f'work_dir={tempfile.mkdtemp()}',
            ],
        }
        self.load_config = load_config

    def run(self, fp16: bool = False) -> dict[str, Any]:
        from psa_pose.engine import build
        from psa_pose.engine.module import PoseModule
        from psa_pose.engine.ranks import Ranks
        from psa_pose.engine.step import step_options
        from psa_pose.engine.trainer import build_trainer
        from psa_pose.models.checkpoints import load_checkpoint

        cfg = self.load_config(
            self.options['config'], [*self.options['changes'], f'val_cfg.fp16={fp16}']
        )
        step = step_options(cfg)
        dataset = build.build_dataset(cfg, 'val_dataloader')
        estimator = build.build_model(cfg, dataset.info)
        load_checkpoint(estimator, self.weights, strict=True)
        metric = build.build_metric(cfg, 'val_evaluator', dataset)
        trainer = build_trainer(
            cfg, step, Ranks(), logger=False, enable_checkpointing=False, plain=True
        )
        clock = Clock()
        loader = build.build_loader(cfg, 'val_dataloader', dataset, trainer)
        plain = type(dataset).__getitem__
        many = getattr(type(dataset), '__getitems__', None)
        module = PoseModule(estimator, metric, step)
        estimator.forward = clock.timed(estimator.forward, 'network')  # type: ignore[method-assign]
        metric.process = clock.timed(metric.process, 'metric')  # type: ignore[method-assign]
        metric.compute = clock.timed(metric.compute, 'metric')  # type: ignore[method-assign]
        try:
            if many:
                type(dataset).__getitems__ = clock.timed(many, 'image')
            else:
                type(dataset).__getitem__ = clock.timed(plain, 'image')
            start = time.process_time()
            trainer.test(module, loader, verbose=False)
            total = time.process_time() - start
        finally:
            if many:
                type(dataset).__getitems__ = many
            type(dataset).__getitem__ = plain
        persons = sorted(metric.predictions)
        ids = [int(dataset.persons.id[i]) for i in persons]
        order = np.argsort(ids)
        keypoints, scores = zip(*(metric.predictions[persons[i]] for i in order), strict=True)
        return {
            'total': total,
            **clock.spent,
            'ap': module.metrics['AP'],
            'ids': [ids[i] for i in order],
            'keypoints': np.array(keypoints).tolist(),
            'scores': np.array(scores).tolist(),
        }


def make_weights(config: str, changes: list[str], path: Path) -> None:
    """Seeded weights whose heatmaps vary: BatchNorm knows the images, the last layer is larger.

    Residual branches are turned down: a deep random network is chaotic, and would make another
    answer of the crop that another version of OpenCV interpolates.
    """
    from psa_pose import build_model
    from psa_pose.engine import build
    from psa_pose.engine.config import load_config
    from psa_pose.models.backbones.blocks import BasicBlock, Bottleneck
    from psa_pose.structures import COCO_KEYPOINTS

    torch.manual_seed(0)
    cfg = load_config(config, changes)
    model = build_model(cfg, COCO_KEYPOINTS).train()
    dataset = build.build_dataset(cfg, 'val_dataloader')
    samples = [dataset[i] for i in range(16)]
    crops = torch.stack([torch.as_tensor(sample.crop) for sample in samples])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches that it sees
        if isinstance(module, BasicBlock | Bottleneck):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            torch.nn.init.constant_(last.weight, 0.1)
    with torch.no_grad():
        heatmaps = model(model.data_preprocessor(crops))
        model.head.final_layer.weight *= 0.25 / heatmaps.std()
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Of two answers: AP in points, keypoints in pixels of the image, scores."""
    assert ours['ids'] == theirs['ids'], 'the two sides predicted different persons'
    a, b = (np.array(side['keypoints']) for side in (ours, theirs))
    distance = np.linalg.norm(a - b, axis=-1)
    scores = np.abs(np.array(ours['scores']) - np.array(theirs['scores']))
    return {
        'ap_points': 100 * (ours['ap'] - theirs['ap']),
        'median_px': float(np.median(distance)),
        'same_share': float((distance < 0.5).mean()),
        'score': float(scores.max()),
    }


def measure(args: argparse.Namespace, network: str, weights: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    options = (network, weights, str(args.data.resolve()), args.split, args.batch)
    ours = OurSide(*options)
    with Peer(args.peer, __file__, '--serve', json.dumps(options)) as peer:
        rounds = [
            {
                'float32': ours.run(),
                'mmpose': peer.ask(),
                'bfloat16': ours.run(fp16=True),
            }
            for _ in range(args.rounds + 1)
        ][1:]  # the first warms up
        theirs = peer.versions
    persons = len(rounds[0]['mmpose']['ids'])
    row: dict[str, Any] = {'network': network, 'persons': persons, 'mmpose_versions': theirs}
    for name in ('mmpose', 'float32', 'bfloat16'):
        total = statistics.median(r[name]['total'] for r in rounds)
        stages = {
            stage: 1e3 * statistics.median(r[name][stage] for r in rounds) / persons
            for stage in ('image', 'network', 'metric')
        }
        stages['rest'] = 1e3 * total / persons - sum(stages.values())
        row[name] = {
            'persons_per_s': persons / total,
            'ratio': statistics.median(r['mmpose']['total'] / r[name]['total'] for r in rounds),
            'ms': stages,
            'ap': rounds[0][name]['ap'],
            'difference': difference(rounds[0][name], rounds[0]['mmpose']),
        }
    return row


def show(rows: list[dict[str, Any]], caption: str) -> None:
    from rich.console import Console
    from rich.table import Table

    stages = ('image', 'network', 'rest', 'metric')
    table = Table(title='evaluation, end to end, one thread', caption=caption)
    for column in ('network', 'side'):
        table.add_column(column, no_wrap=True)
    for column in ('persons/s', 'ratio', *stages, 'AP', 'same within 0.5 px'):
        table.add_column(column, justify='right')
    for row in rows:
        for name in ('mmpose', 'float32', 'bfloat16'):
            side = row[name]
            table.add_row(
                row['network'],
                name,
                f'{side["persons_per_s"]:.2f}',
                f'{side["ratio"]:.2f}x',
                *(f'{side["ms"][stage]:.1f}' for stage in stages),
                f'{side["ap"]:.4f}',
                f'{side["difference"]["same_share"]:.2%}',
            )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--peer', type=Path, default=PYTHON, help='Python that has MMPose')
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--split', choices=SPLITS, default='dev')
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--weights', type=Path, help='trained ones, for the one network named')
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--serve', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        torch.set_num_threads(1)
        serve(lambda: MMPoseSide(*json.loads(args.serve)).run)
        return
    for needed, why in ((args.peer, MISSING), (args.data, 'skipped: {} is missing')):
        if not needed.exists():
            print(why.format(needed))
            return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks:
            path = args.weights or Path(folder, f'{network}.pth')
            if not args.weights:
                options = OurSide(network, '', str(args.data), args.split, 16).options
                make_weights(options['config'], options['changes'], path)
            rows.append(measure(args, network, str(path.resolve())))
    mine = versions('psa_pose')
    both = (mine, rows[0]['mmpose_versions'])
    show(rows, ' | '.join(', '.join(f'{k} {v}' for k, v in side.items()) for side in both))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()
