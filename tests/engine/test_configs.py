"""Every config of the mission: there, short, building, in the table; one step of each family."""

import itertools
from pathlib import Path

import pytest
import torch

from psa_pose.engine.build import build_model
from psa_pose.engine.config import config_roots, find_config, load_config
from psa_pose.engine.config_table import HEADER, config_names, table_row
from psa_pose.structures import COCO_KEYPOINTS, PoseBatch

BACKBONES = [f'simplebaseline_r{d}' for d in (50, 101, 152)] + ['hrnet_w32', 'hrnet_w48']
ATTENTION = ['', '_psa_p', '_psa_s']
COCO = [
    f'coco/{b}{a}{c}_{s}'
    for b, a, c, s in itertools.product(
        BACKBONES, ATTENTION, ['', '_dark', '_udp'], ['256x192', '384x288']
    )
]
MPII = [f'mpii/{b}{a}_256x256' for b, a in itertools.product(BACKBONES, ATTENTION)]
NAMES = config_names()


def test_the_mission_s_configs_are_all_there() -> None:
    assert set(COCO + MPII) <= set(NAMES)
    assert len(COCO) == 90
    assert len(MPII) == 15


@pytest.mark.parametrize('name', COCO + MPII)
def test_it_says_what_its_name_says(name: str) -> None:
    cfg = load_config(f'{name}.py')
    dataset, leaf = name.split('/')
    height, width = (int(v) for v in leaf.rsplit('_', 1)[1].split('x'))
    codec, backbone = cfg['codec'], cfg['model']['backbone']
    assert tuple(codec['input_size']) == (width, height)
    assert tuple(codec['heatmap_size']) == (width // 4, height // 4)
    assert codec['sigma'] == {192: 2, 256: 2, 288: 3}[width]
    assert codec['type'] == ('UDPHeatmap' if '_udp' in leaf else 'MSRAHeatmap')
    assert bool(codec.get('unbiased')) == ('_dark' in leaf)
    if '_dark' in leaf or '_udp' in leaf:
        assert codec.get('blur_kernel_size', 11) == {2: 11, 3: 17}[codec['sigma']]
    size = leaf.split('_')[1]
    assert backbone.get('arch', f'r{backbone.get("depth")}') == size
    layout = (backbone.get('attention') or {}).get('layout')
    assert layout == next((v for k, v in LAYOUTS.items() if k in leaf), None)
    types = {'coco': 'CocoDataset', 'mpii': 'MpiiDataset'}
    for loader in ('train_dataloader', 'val_dataloader'):
        assert cfg[loader]['dataset']['type'] == types[dataset]
    assert cfg['train_cfg']['max_epochs'] == 210
    assert list(cfg['param_scheduler'][1]['milestones']) == [170, 200]
    assert cfg['param_scheduler'][0]['end'] == 500
    assert cfg['optim_wrapper']['optimizer'] == {'type': 'Adam', 'lr': 5e-4}
    assert cfg['auto_scale_lr']['base_batch_size'] == 512
    assert len(find_config(f'{name}.py').read_text().splitlines()) <= 8


LAYOUTS = {'_psa_p': 'parallel', '_psa_s': 'sequential'}


@pytest.mark.parametrize('name', COCO + MPII)
def test_it_builds_and_makes_heatmaps_of_the_codec_s_size(name: str) -> None:
    with torch.device('meta'):
        model = build_model(f'{name}.py')
    assert model.head.final_layer.out_channels == {'coco': 17, 'mpii': 16}[name.split('/')[0]]
    if 'hrnet_w32' in name or 'r50' in name:  # forwards of the larger ones differ in depth alone
        width, height = model.codec.input_size
        with torch.device('meta'), torch.inference_mode():
            out = model(torch.empty(1, 3, height, width))
        assert out.shape[2:] == tuple(reversed(model.codec.heatmap_size))


@pytest.mark.parametrize('codec', ['', '_dark', '_udp'])
@pytest.mark.parametrize('attention', ATTENTION)
@pytest.mark.parametrize('backbone', ['simplebaseline_r50', 'hrnet_w32'])
def test_a_step_of_each_family_lowers_its_loss(backbone: str, attention: str, codec: str) -> None:
    torch.manual_seed(0)
    # At a third of the size a step takes a ninth of the time.
    third = ['codec.input_size=(64, 96)', 'codec.heatmap_size=(16, 24)']
    cfg = load_config(f'coco/{backbone}{attention}{codec}_256x192.py', third)
    model = build_model(cfg, COCO_KEYPOINTS)
    k = COCO_KEYPOINTS.num_keypoints
    batch = PoseBatch(
        crop=torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8),
        keypoints=torch.rand(2, k, 2) * torch.tensor([63.0, 95.0]),
        visible=torch.ones(2, k),
        to_image=torch.eye(2, 3).expand(2, 2, 3),
        person=torch.arange(2),
        usable=torch.ones(2, dtype=torch.bool),
    )
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)
    losses = []
    for _ in range(3):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_table_is_about_these_configs() -> None:
    text = Path(config_roots()[0], 'README.md').read_text(encoding='utf-8')
    assert text.startswith(HEADER), 'run python tools/config_table.py'
    rows = text.removeprefix(HEADER).splitlines()
    assert [row.split('`')[1] for row in rows] == NAMES, 'run python tools/config_table.py'


@pytest.mark.parametrize(
    'name', ['coco/hrnet_w32_psa_p_384x288', 'mpii/simplebaseline_r50_256x256']
)
def test_a_row_of_the_table_is_what_the_config_gives(name: str) -> None:
    text = Path(config_roots()[0], 'README.md').read_text(encoding='utf-8')
    assert table_row(name) in text, 'run python tools/config_table.py'
