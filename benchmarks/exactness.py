"""The same weights here and in a real MMPose: the same heatmaps, and the same AP.

    python benchmarks/exactness.py --json exactness.json

For HRNet-W32 and SimpleBaseline-R50 at 256x192, on the real people of coco_mini's dev images:

1. This project trains the network for some minutes, on those very images, so that there is an AP
   to compare (`--work-dir` keeps it; a second run goes on from there).
2. `publish --format mmpose` writes it; MMPose's own Runner takes it with `load_from`, trains one
   more epoch and saves it with its own hook: weights, BatchNorm statistics, optimizer and logs are
   MMPose's now.
3. MMPose tests that file with its test loop, this project with `tools/test.py`'s code, each with
   its own reading, cropping, flip test, decoding, NMS and OKS.

Heatmaps have to be within 1e-4, of the network alone and with the flip test, both on the crops that
MMPose made; all six numbers have to be the same to three digits, each side with its own crops.
`own crops` shows what rounding in the crops makes of heatmaps: OpenCV 4 places a sample to 1/32 of
a pixel, and this project cuts the box out of the image before it warps.

Both sides use the peer's OpenCV. OpenCV 5 interpolates more finely than 4: of the same image and
affine their crops are up to 5 of 255 apart. `--own-opencv` shows what that makes of the numbers.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer import MISSING, PYTHON, Peer, serve, versions

DATA = Path(__file__).parents[2] / 'shared' / 'data' / 'coco_mini'
ANN_FILE = 'annotations/person_keypoints_dev.json'
NETWORKS = {
    'simplebaseline_r50': 'td-hm_res50_8xb64-210e_coco-256x192.py',
    'hrnet_w32': 'td-hm_hrnet-w32_8xb64-210e_coco-256x192.py',
}
NUMBERS = {
    'AP': 'AP',
    'AP50': 'AP .5',
    'AP75': 'AP .75',
    'APM': 'AP (M)',
    'APL': 'AP (L)',
    'AR': 'AR',
}
TOLERANCE = 1e-4


def use_opencv_of(python: Path, folder: Path) -> None:
    """Import `cv2` from the peer's environment, and nothing else of it."""
    for path in python.parent.parent.glob('lib/python3*/site-packages/*'):
        if path.name == 'cv2' or (path.name.startswith('opencv') and path.suffix == '.libs'):
            (folder / path.name).symlink_to(path)
    sys.path.insert(1, str(folder))  # behind the first: OpenCV inserts its own there
    import cv2

    if str(folder) not in cv2.__file__:
        raise SystemExit(f'{python}: its OpenCV cannot be imported here; try --own-opencv')


def our_config(network: str, data: Path) -> Any:
    from psa_pose.engine.config import load_config

    options = ['auto_scale_lr.enable=False', 'train_dataloader.batch_size=8']
    for loader in ('train_dataloader', 'val_dataloader'):
        options += [
            f'{loader}.num_workers=1',
            f'{loader}.dataset.data_root={data}',
            f'{loader}.dataset.ann_file={ANN_FILE}',
            f'{loader}.dataset.data_prefix.img=images/',
        ]
    return load_config(f'configs/coco/{network}_256x192.py', options)


def train(network: str, data: Path, work_dir: Path, epochs: int) -> Path:
    """Learn the images by heart; returns the checkpoint."""
    from psa_pose.engine.train import train as run

    last = work_dir / 'checkpoints' / 'last.ckpt'
    if not last.is_file():
        cfg = our_config(network, data)
        cfg.work_dir = str(work_dir)
        cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        cfg.optim_wrapper.optimizer.update(type='AdamW', lr=1e-3)
        cfg.param_scheduler = [
            dict(type='LinearLR', start_factor=0.01, begin=0, end=40, by_epoch=False),
            dict(type='CosineAnnealingLR', convert_to_iter_based=True),
        ]
        cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
        run(cfg)
    return last


def our_answer(network: str, data: Path, checkpoint: Path, theirs: Any) -> dict[str, Any]:
    """Differences of heatmaps, and the numbers of an evaluation."""
    from psa_pose.engine import build
    from psa_pose.engine.evaluate import test
    from psa_pose.models.checkpoints import load_checkpoint

    cfg = our_config(network, data)
    cfg.work_dir = str(checkpoint.parent)
    dataset = build.build_dataset(cfg, 'val_dataloader')
    model = build.build_model(cfg, dataset.info)
    print(load_checkpoint(model, checkpoint, strict=True))
    model.eval()
    place = {number: i for i, number in enumerate(theirs['id'])}
    apart: dict[str, list[float]] = {}
    differing = 0.0
    with torch.inference_mode():
        for start in range(0, len(dataset), 16):
            batch = torch.utils.data.default_collate(
                [dataset[i] for i in range(start, min(start + 16, len(dataset)))]
            )
            rows = [place[int(dataset.persons.id[i])] for i in batch.person]
            crops = torch.from_numpy(theirs['crops'][rows])
            differing += float((batch.crop != crops).any(-1).float().mean((1, 2)).sum())
            pairs = {
                'crops': (batch.crop.float(), crops),
                'network': (model(model.data_preprocessor(crops)), theirs['alone'][rows]),
                'flip test': (model.heatmaps(batch._replace(crop=crops)), theirs['flipped'][rows]),
                'own crops': (model.heatmaps(batch), theirs['flipped'][rows]),
            }
            for name, (mine, other) in pairs.items():
                apart.setdefault(name, []).append(
                    float((mine - torch.as_tensor(other)).abs().max())
                )
    numbers = test(cfg, checkpoint)
    return {
        'largest heatmap value': float(theirs['alone'].max()),
        'differing crop pixels': differing / len(dataset),
        'apart': {name: max(values) for name, values in apart.items()},
        'metrics': {name: numbers[name] for name in NUMBERS},
    }


def mmposes_config(network: str, data: str, work_dir: str) -> Any:
    """MMPose's own config of the network, its data replaced by coco_mini's dev images."""
    import mmpose
    from mmengine.config import Config

    folder = Path(mmpose.__file__).parent / '.mim/configs/body_2d_keypoint/topdown_heatmap/coco'
    cfg = Config.fromfile(folder / NETWORKS[network])
    cfg.model.backbone.init_cfg = None
    cfg.work_dir = work_dir
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[name]
        loader.update(batch_size=16, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=data, ann_file=ANN_FILE, data_prefix=dict(img='images/'))
        loader.dataset.pop('bbox_file', None)  # ground truth boxes
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = f'{data}/{ANN_FILE}'
    cfg.train_cfg.update(max_epochs=1, val_interval=2)
    cfg.optim_wrapper.optimizer.lr = 1e-5  # with its warm-up: a little, and BatchNorm as ever
    return cfg


def mmposes_answers() -> Callable[..., Any]:
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'  # or it cannot load its own files
    from mmengine.runner import Runner
    from mmpose.utils import register_all_modules

    register_all_modules()

    def answer(network: str, data: str, work_dir: str, load_from: str, out: str) -> dict[str, Any]:
        cfg = mmposes_config(network, data, work_dir)
        cfg.load_from = load_from
        Runner.from_cfg(cfg).train()
        checkpoint = f'{work_dir}/epoch_1.pth'
        cfg = mmposes_config(network, data, f'{work_dir}/test')
        cfg.load_from = checkpoint
        runner = Runner.from_cfg(cfg)
        numbers = runner.test()
        np.savez(out, **mmposes_heatmaps(runner))
        return {
            'checkpoint': checkpoint,
            'metrics': {ours: float(numbers[f'coco/{name}']) for ours, name in NUMBERS.items()},
        }

    return answer


def mmposes_heatmaps(runner: Any) -> dict[str, np.ndarray]:
    """Of every person: annotation id, crop (RGB), heatmaps without and with the flip test."""
    model, parts = runner.model.eval(), {'id': [], 'crops': [], 'alone': [], 'flipped': []}
    model.test_cfg['output_heatmaps'] = True
    with torch.inference_mode():
        for batch in runner.test_dataloader:
            crops = torch.stack(batch['inputs'])
            inputs = model.data_preprocessor(batch, False)
            images, samples = inputs['inputs'], inputs['data_samples']
            alone = model.head.forward(model.extract_feat(images))
            predicted = model.predict(images, samples)
            parts['id'].append(np.ravel([sample.metainfo['id'] for sample in samples]))
            parts['crops'].append(crops.flip(1).permute(0, 2, 3, 1).numpy())
            parts['alone'].append(alone.numpy())
            parts['flipped'].append(np.stack([p.pred_fields.heatmaps.numpy() for p in predicted]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def compare(network: str, args: argparse.Namespace, peer: Peer) -> dict[str, Any]:
    from psa_pose.engine.publish import publish

    work_dir = args.work_dir.resolve() / network
    data = args.data.resolve()
    last = train(network, data, work_dir, args.epochs)
    published = publish(last, work_dir / 'for_mmpose.pth', file_format='mmpose')
    heatmaps = work_dir / 'mmpose.npz'
    theirs = peer.ask(
        network=network,
        data=str(data),
        work_dir=str(work_dir / 'mmpose'),
        load_from=str(published),
        out=str(heatmaps),
    )
    checkpoint = Path(theirs['checkpoint'])
    ours = our_answer(network, data, checkpoint, dict(np.load(heatmaps)))
    return {'network': network, **ours, 'mmpose_metrics': theirs['metrics']}


def show(row: dict[str, Any]) -> bool:
    """Print a network's numbers; whether they are within the tolerance."""
    apart, largest = row['apart'], row['largest heatmap value']
    print(f'\n{row["network"]}: differences from MMPose, at most (heatmaps reach {largest:.3f})')
    for name in ('network', 'flip test', 'own crops'):
        print(f'  {name:9} {apart[name]:.2e}')
    share = row['differing crop pixels']
    print(f'  crops     {apart["crops"]:g} of 255; {share:.3%} of their pixels differ')
    for side, name in (('metrics', 'ours'), ('mmpose_metrics', 'MMPose')):
        print(f'  {name:9}', '  '.join(f'{k} {v:.4f}' for k, v in row[side].items()))
    same = all(round(row['metrics'][k], 3) == round(row['mmpose_metrics'][k], 3) for k in NUMBERS)
    return same and max(apart['network'], apart['flip test']) <= TOLERANCE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--data', type=Path, default=DATA, help='folder of coco_mini')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/exactness'))
    parser.add_argument('--epochs', type=int, default=40, help='of 80 persons; about 5 minutes')
    parser.add_argument('--peer', type=Path, default=PYTHON, help='Python that has MMPose')
    parser.add_argument('--own-opencv', action='store_true', help="not the peer's")
    parser.add_argument('--json', type=Path, help='write every number here')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(mmposes_answers)
        return
    for needed, why in ((args.peer, MISSING), (args.data, 'skipped: {} is missing')):
        if not needed.exists():
            print(why.format(needed))
            return
    with tempfile.TemporaryDirectory() as folder:
        if not args.own_opencv:
            use_opencv_of(args.peer, Path(folder))
        with Peer(args.peer, __file__, '--serve') as peer:
            rows = [compare(network, args, peer) for network in args.networks]
        ours = versions('psa_pose')
    for side in (ours, peer.versions):
        print(', '.join(f'{name} {version}' for name, version in side.items()))
    fits = [show(row) for row in rows]
    if args.json:
        content = {'ours': ours, 'peer': peer.versions, 'rows': rows}
        args.json.write_text(json.dumps(content, indent=1) + '\n')
    sys.exit(0 if all(fits) else 1)


if __name__ == '__main__':
    main()
