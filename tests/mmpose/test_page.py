"""docs/mmpose.md, every block of it, as a reader would run it: two folders, two environments.

Networks and data are made small by lines added to the config files; the page's own stay.
"""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.engine.build import build_model
from psa_pose.models import HRNet
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.models.checkpoints.read import read_checkpoint
from tests.conftest import ROOT
from tests.mmpose.conftest import Run

PAGE = ROOT / 'docs' / 'mmpose.md'
HEATMAPS = ROOT / 'tests' / 'mmpose' / 'heatmaps.py'
OURS = 'configs/coco/hrnet_w32_psa_p_256x192.py'
SMALL_MMPOSE = """
model['backbone'].update(
    arch='tiny', extra=None, init_cfg=dict(type='Pretrained', checkpoint='tiny.pth'))
model['head'] = dict(in_channels=16)
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(bbox_file=None))
test_dataloader = val_dataloader
param_scheduler = []
"""
SMALL_OURS = f"""
_base_ = '{ROOT / OURS}'
model = dict(backbone=dict(arch='tiny'))
train_cfg = dict(max_epochs=2, val_interval=2)
train_dataloader = dict(batch_size=8, num_workers=0)
val_dataloader = dict(batch_size=8, num_workers=0)
param_scheduler = []
auto_scale_lr = dict(enable=False)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
"""


class Page:
    """The blocks of the page, taken one after the other."""

    def __init__(self) -> None:
        self.blocks = re.findall(r'^```(\w+)\n(.*?)^```', PAGE.read_text(), re.M | re.S)

    def take(self, language: str, part: str) -> str:
        """The next block, which is in `language` and has `part` in it."""
        found, block = self.blocks.pop(0)
        assert found == language and part in block, f'expected {language} with {part!r}:\n{block}'
        return block


def lay_out(shared_data: Path, folder: Path) -> Path:
    """A folder with `data/coco` as both projects expect it: the people of 6 real images."""
    coco = shared_data / 'coco_mini'
    content = json.loads((coco / 'annotations' / 'person_keypoints_dev.json').read_text())
    content['images'] = content['images'][:6]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    assert sum(a['num_keypoints'] > 0 for a in content['annotations']) >= 8
    data = folder / 'data' / 'coco'
    (data / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (data / 'annotations' / f'person_keypoints_{split}.json').write_text(json.dumps(content))
        (data / split).symlink_to(coco / 'images')
    return folder


def our_heatmaps(config: Path, checkpoint: Path, crops: np.ndarray) -> np.ndarray:
    model = build_model(str(config)).eval()
    report = load_checkpoint(model, checkpoint)
    assert report.complete, str(report)
    with torch.inference_mode():
        return model(model.data_preprocessor(torch.from_numpy(crops))).numpy()


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Within 1e-4 of the largest value: a network this young makes small ones."""
    assert ours.shape == theirs.shape == (3, 17, 64, 48)
    assert ours.std() > 1e-4  # else anything would be the same
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()


@pytest.mark.docs
def test_the_page(run: Run, shared_data: Path, tmp_path: Path) -> None:
    page = Page()
    theirs, ours = lay_out(shared_data, tmp_path / 'mmpose'), lay_out(shared_data, tmp_path / 'psa')
    mim = run('python', '-c', 'import mmpose; print(mmpose.__path__[0])').splitlines()[-1] + '/.mim'
    for name in ('tools', 'configs'):
        (theirs / name).symlink_to(Path(mim, name))
    config = ours / OURS
    config.parent.mkdir(parents=True)
    config.write_text(SMALL_OURS)
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 192, 3), np.uint8)
    np.save(tmp_path / 'crops.npy', crops)

    site = install(run, page.take('bash', 'pip install'), tmp_path / 'site')

    def in_mmpose(*command: str | Path, **variables: str) -> str:
        return run(*command, cwd=theirs, PYTHONPATH=str(site), **variables)

    def in_ours(block: str) -> str:
        return run('bash', '-ec', block, cwd=ours, MMPOSE=str(theirs))

    def mmposes_heatmaps(name: str, checkpoint: Path | str = '', **variables: str) -> np.ndarray:
        out = tmp_path / 'heatmaps.npy'
        log = in_mmpose(
            'python', HEATMAPS, name, checkpoint, tmp_path / 'crops.npy', out, **variables
        )
        assert not checkpoint or 'keypoints: nose left_eye' in log
        return np.load(out)

    # Configs, at first as they stand: W32 and R50.
    (theirs / 'hrnet_w32_psa.py').write_text(page.take('python', 'psa_pose.HRNet'))
    (theirs / 'res50_psa.py').write_text(page.take('python', 'psa_pose.ResNet'))
    for name in ('hrnet_w32_psa.py', 'res50_psa.py'):
        assert mmposes_heatmaps(name).shape == (3, 17, 64, 48)
    block = page.take('python', 'psa_pose.PSA')
    used = 'import torch; x = torch.rand(2, 64, 8, 6); print(block(x).shape == x.shape)'
    assert in_mmpose('python', '-c', f'{block}\n{used}').splitlines()[-1] == 'True'
    with (theirs / 'hrnet_w32_psa.py').open('a') as file:
        file.write(SMALL_MMPOSE)
    torch.save(HRNet('tiny').state_dict(), theirs / 'tiny.pth')

    # One epoch and two evaluations by MMPose.
    train, test = page.take('bash', 'tools/train.py').strip().splitlines()
    log = in_mmpose('bash', '-ec', train)
    assert 'attention: 10 blocks new, random' in log and 'a bare HRNet' in log  # of init_cfg
    assert 0 < float(re.findall(r' loss: (\S+) ', log)[-1]) < 1
    trained = numbers(log)
    (best,) = (theirs / 'work_dirs' / 'hrnet_w32_psa').glob('best_*.pth')
    assert numbers(in_mmpose('bash', '-ec', test)) == trained
    variable, unsafe = test.split()[0].split('=')
    assert_learnt_attention(best)

    # Weights to this project.
    log = in_ours(page.take('bash', 'psa-pose test'))
    assert re.search(r'MMPose: \d+ loaded \([\d.]+ M values\)$', log, re.M) and ' AP ' in log
    assert_same(
        our_heatmaps(config, best, crops),
        mmposes_heatmaps('hrnet_w32_psa.py', best, **{variable: unsafe}),
    )

    # And back: another network, so that heatmaps of the one before would not do.
    in_ours(page.take('bash', 'psa-pose publish-model'))
    (published,) = theirs.glob('hrnet_w32_psa-*.pth')
    log = in_mmpose('bash', '-ec', page.take('bash', 'tools/test.py'))
    assert 'unexpected key' not in log and 'missing key' not in log
    numbers(log)
    run_s = ours / 'work_dirs/hrnet_w32_psa_p_256x192/checkpoints/last.ckpt'
    assert_same(our_heatmaps(config, run_s, crops), mmposes_heatmaps('hrnet_w32_psa.py', published))
    with pytest.raises(AssertionError):
        assert_same(our_heatmaps(config, best, crops), our_heatmaps(config, run_s, crops))
    assert page.blocks == [], 'blocks that nobody ran'


def install(run: Run, block: str, site: Path) -> Path:
    """The page's command, into a folder of its own; the checkout where pip has no network."""
    command = f'{block.strip()} --target {site}'
    try:
        run('bash', '-ec', command, cwd=ROOT, PYTHONPATH='', PIP_RETRIES='1', PIP_TIMEOUT='15')
    except AssertionError as error:
        if 'No matching distribution found for hatchling' not in str(error):
            raise
        warnings.warn('not installed: pip could not fetch hatchling (no network?)', stacklevel=1)
        return ROOT
    assert (site / 'psa_pose' / 'registry.py').is_file() and not (site / 'mmengine').exists()
    return site


def numbers(log: str) -> dict[str, float]:
    """Of the last evaluation by MMPose's CocoMetric."""
    found = {name: float(v) for name, v in re.findall(r'coco/(A[PR](?: \S+)?): (-?[\d.]+)', log)}
    assert found.keys() >= {'AP', 'AP .5', 'AR', 'AR .5'} and all(v <= 1 for v in found.values())
    assert found['AP'] >= 0
    return found


def assert_learnt_attention(checkpoint: Path) -> None:
    """MMPose's optimizer moved what is new in the network, too."""
    state = read_checkpoint(checkpoint)['state_dict']
    norms = [v for n, v in state.items() if n.endswith('.attention.norm.weight')]
    assert len(norms) == 10 and all(v.ne(1).any() for v in norms)
