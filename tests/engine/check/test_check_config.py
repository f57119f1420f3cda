"""Misspelt keys anywhere in a config are found, all at once, with their places."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from mmengine.config import Config

from psa_pose.engine.check.config import check_config
from psa_pose.engine.check.findings import Findings
from psa_pose.engine.check.model import check_model, check_trainer
from psa_pose.engine.config import KEYS, load_config
from psa_pose.engine.config_table import config_names
from psa_pose.registry import collecting
from psa_pose.structures import COCO_KEYPOINTS

RICH = 'demo/hrnet_tiny_psa_p_128x96.py'
# What no shipped config says, so that every dictionary that a config may have is there.
MORE = [
    'model.test_cfg=dict(flip_test=True)',
    'model.data_preprocessor=dict(type="PoseDataPreprocessor")',
    'model.head.loss=dict(type="KeypointMSELoss")',
    'model.backbone.init_cfg=dict(type="Pretrained", checkpoint="nowhere.pth")',
    'optim_wrapper.type=AmpOptimWrapper',
    'optim_wrapper.clip_grad=dict(max_norm=1.0)',
    'optim_wrapper.paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)),'
    'new=dict(lr_mult=2.0, param_scheduler=dict(type="LinearLR")))',
    'env_cfg.dist_cfg=dict(timeout=60)',
    'model_wrapper_cfg=dict(type="DistributedDataParallel")',
    'custom_hooks=[dict(type="EMAHook")]',
    'val_evaluator=[dict(type="CocoMetric"), dict(type="PCKAccuracy", prefix="a")]',
    'test_evaluator=dict(type="CocoMetric")',
    'val_cfg=dict(fp16=False)',
    'compile=dict(mode="default")',
    'load_from=nowhere.ckpt',
    'default_hooks.visualization=dict(persons=2)',
    'visualizer=dict(type="PoseLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])',
    'train_cfg.max_nonfinite=3',
]


def dictionaries(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every dictionary of a config that something reads, with its place."""
    if isinstance(value, Mapping):
        yield path, value
        for key, inner in list(value.items()):
            if path or not key.startswith('_'):
                yield from dictionaries(inner, f'{path}.{key}' if path else key)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from dictionaries(inner, f'{path}.{i}')


def examine(cfg: Config) -> Findings:
    cfg.work_dir = 'nowhere'
    findings = Findings()
    check_config(cfg, findings)
    check_model(cfg, None, findings)
    check_trainer(cfg, None, findings)
    return findings


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        (RICH, []),
        (RICH, MORE),
        (RICH, ['vis_backends=[dict(type="TensorboardVisBackend")]']),
        ('coco/hrnet_w32_psa_p_256x192.py', []),
        ('coco/simplebaseline_r50_psa_s_udp_256x192.py', []),
        ('coco/hrnet_w32_udp_combined_256x192.py', []),
        ('mpii/hrnet_w32_psa_p_256x256.py', []),
        ('lspet/finetune_hrnet_tiny_psa_p_128x96.py', []),
        ('coco_mini/hrnet_tiny_psa_p_128x96.py', []),
    ],
)
def test_a_made_up_key_is_found_in_every_dictionary_at_once(name: str, options: list[str]) -> None:
    cfg = load_config(name, options)
    places = [(path, found) for path, found in dictionaries(cfg._cfg_dict) if path]
    assert len(places) > 15
    for number, (_, found) in enumerate(places):
        found[f'made_up_{number}'] = 1
    told = [str(finding) for finding in examine(cfg)]
    for number, (path, _) in enumerate(places):
        mine = [line for line in told if f"made_up_{number}'" in line]
        assert len(mine) == 1, (path, mine, told)
        assert mine[0].startswith(f'error    {path}'), mine


@pytest.mark.parametrize(
    ('name', 'options'), [(RICH, MORE), ('mpii/simplebaseline_r50_psa_s_256x256.py', [])]
)
def test_the_nearest_valid_name_is_said_everywhere(name: str, options: list[str]) -> None:
    cfg, misspelt = load_config(name, options), []
    for path, found in list(dictionaries(cfg._cfg_dict)):
        for key in list(found):
            # A metric's class does not know of the prefix that its entry in a list may have.
            if path and key not in ('type', 'prefix') and f'{key}x' not in found:
                found[f'{key}x'] = 1
                misspelt.append((path, key))
    told = [str(finding) for finding in examine(cfg)]
    assert len(misspelt) > 30
    for path, key in misspelt:
        mine = [t for t in told if t.startswith(f'error    {path}: ') and f"'{key}x'" in t]
        assert len(mine) == 1 and f"did you mean '{key}'?" in mine[0], (path, key, mine)


def test_a_type_that_is_wrong_hides_nothing_else() -> None:
    options = [
        'model.backbone.type=HRNt',
        'model.head.type=Hed',
        'model.head.deconv=()',
        'codec.type=MSRAHeatmaps',
        'train_dataloader.dataset.type=CocoStile',
        'train_dataloader.dataset.pipeline.0.type=LoadImag',
        'optim_wrapper.optimizer.type=AdmW',
        'train_cfg.max_epochs=many',
        'train_dataloader.batch_size=0',
        'randomness.seed=-1',
        'freeze=[7]',
    ]
    told = '\n'.join(map(str, examine(load_config(RICH, options))))
    for text in (
        "model.backbone: unknown model type 'HRNt'; did you mean 'HRNet'?",
        "model.head: unknown model type 'Hed'",
        "codec: unknown codec type 'MSRAHeatmaps'; did you mean 'MSRAHeatmap'?",
        "dataset: unknown dataset type 'CocoStile'; did you mean 'CocoStyleDataset'?",
        "train_dataloader.dataset.pipeline.0: unknown transform type 'LoadImag'; did you mean",
        "optim_wrapper.optimizer: unknown optimizer type 'AdmW'; did you mean 'AdamW'?",
        "train_cfg.max_epochs: expected a whole number from 1 on, got 'many'",
        'train_dataloader.batch_size: expected a whole number from 1 on, got 0',
        'randomness.seed: expected a whole number from 0 on, got -1',
        'freeze: expected a list of names of modules, got [7]',
    ):
        assert text in told, (text, told)


def test_names_of_parts_are_all_looked_for() -> None:
    options = [
        'freeze=["backbone.conv7", "backbone.layr1", "backbone.conv1"]',
        'optim_wrapper.paramwise_cfg=dict(custom_keys={"bakbone": dict(lr_mult=1.0), '
        '"hed": dict(lr_mult=1.0), "head": dict(lr_mut=1.0)})',
    ]
    told = '\n'.join(map(str, examine(load_config(RICH, options))))
    assert "freeze: no module or parameter 'backbone.conv7'; did you mean 'backbone.conv" in told
    assert "freeze: no module or parameter 'backbone.layr1'; did you mean 'backbone.layer1'" in told
    assert "'bakbone' is in no parameter's name; did you mean 'backbone'?" in told
    assert "'hed' is in no parameter's name; did you mean 'head'?" in told
    assert "custom_keys.head: no option 'lr_mut'; did you mean 'lr_mult'?" in told


@pytest.mark.parametrize(
    ('options', 'level', 'text'),
    [
        (['codec.heatmap_size=(48, 64)'], 'error', 'set codec.heatmap_size to (24, 32)'),
        (['codec.input_size=(100, 130)'], 'error', 'choose multiples of 32'),
        (
            ['codec=dict(type="UDPHeatmap", heatmap_type="combined", input_size=(96, 128), '
             'heatmap_size=(24, 32))'],
            'error',
            "CombinedTargetMSELoss",
        ),
        (['default_hooks.checkpoint.save_best=APP'], 'error', "did you mean 'AP'?"),
        (['trainer.max_epochs=3'], 'error', 'a config says this as train_cfg.max_epochs'),
        (['sync_bn=mmcv'], 'error', "sync_bn must be 'torch' or None"),
        (['model.backbone.frozen_stages=1'], 'error', 'say which modules stand still'),
        (['auto_scale_lr.base_batch_size=1'], 'warning', 'likely to diverge'),
        (
            ['param_scheduler=[dict(type="MultiStepLR", milestones=[170, 200])]'],
            'warning',
            '[170, 200] come after the last of 24 epochs',
        ),
        (['load_from=nowhere.ckpt'], 'error', ''),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(options: list[str], level: str, text: str) -> None:
    cfg = load_config(RICH, options)
    cfg.work_dir = 'nowhere'
    findings = Findings()
    check_config(cfg, findings)
    check_model(cfg, COCO_KEYPOINTS, findings)
    check_trainer(cfg, None, findings)
    assert any(f.level == level and text in str(f) for f in findings), list(map(str, findings))


def test_each_of_the_top_keys_that_holds_options_is_read() -> None:
    """A key that joins KEYS joins this list, so that the doctor is known to look into it."""
    plain = {'sync_bn', 'load_from', 'freeze', 'work_dir', 'default_scope', 'custom_imports'}
    plain |= {'vis_backends'}  # of the visualizer, which excludes it here
    there = {path.split('.')[0] for path, _ in dictionaries(load_config(RICH, MORE)._cfg_dict)}
    assert set(KEYS) - plain - there == {'test_dataloader'}


@pytest.mark.parametrize('name', config_names())
def test_every_shipped_config_is_sound(name: str) -> None:
    cfg = load_config(f'{name}.py')
    cfg.load_from = None
    findings = Findings()
    cfg.work_dir = 'nowhere'
    check_config(cfg, findings)
    check_trainer(cfg, None, findings)
    if name.startswith(('demo', 'lspet', 'coco_mini')) or name.endswith('w32_psa_p_256x192'):
        check_model(cfg, None, findings)  # of all of them: tests/engine/test_configs.py
    assert not findings, [str(finding) for finding in findings]


def test_misspelt_keys_at_the_top_come_together_with_their_nearest() -> None:
    with collecting() as errors:
        load_config(RICH, ['optim_wraper.x=1', 'train_cgf.max_epochs=3'])
    told = '\n'.join(map(str, errors))
    assert "the key 'optim_wraper'; did you mean 'optim_wrapper'?" in told
    assert "the key 'train_cgf'; did you mean 'train_cfg'?" in told
