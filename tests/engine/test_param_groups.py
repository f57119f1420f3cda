"""Groups of parameters: MMEngine's own rules, what is new, schedules of a part, errors."""

import itertools
import re
from typing import Any

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from psa_pose import build_model
from psa_pose.engine.optim import LinearLR
from psa_pose.engine.param_groups import REST, param_groups
from psa_pose.errors import ConfigError
from psa_pose.structures import COCO_KEYPOINTS
from tests.engine.conftest import CONFIG, last_of

OPTIMIZER = {'lr': 0.002, 'weight_decay': 0.01}
RULES = {
    'norm_decay_mult': 0.0,
    'bias_lr_mult': 2.0,
    'bias_decay_mult': 0.5,
    'flat_decay_mult': 0.25,
    'dwconv_decay_mult': 0.125,
}
KEYS = {
    'backbone': {'lr_mult': 0.1},
    'backbone.stage2': {'lr_mult': 0.3, 'decay_mult': 0.0},
    'attention': {'decay_mult': 3.0},
    'stage4.0.fuse_layers': {},
    'bn1.weight': {'lr_mult': 0.0},
}


@pytest.fixture(scope='module')
def model() -> nn.Module:
    model = build_model(CONFIG, COCO_KEYPOINTS)
    model.depthwise = nn.Conv2d(4, 4, 3, groups=4)  # type: ignore[assignment]
    return model


def settings(model: nn.Module, paramwise_cfg: Any) -> dict[str, tuple[float, float]]:
    parameters = dict(model.named_parameters())
    groups = param_groups(model, paramwise_cfg, OPTIMIZER)
    optimizer = torch.optim.AdamW([g.arguments(parameters) for g in groups], **OPTIMIZER)
    return {
        name: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for name in group['param_names']
    }


def mmengines(model: nn.Module, paramwise_cfg: Any) -> dict[str, tuple[float, float]]:
    wrapper = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', **OPTIMIZER}}
    groups = DefaultOptimWrapperConstructor(wrapper, paramwise_cfg)(model).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(g['params'][0])]: (g['lr'], g['weight_decay']) for g in groups}


@pytest.mark.parametrize('rules', [*itertools.combinations(RULES, 2), tuple(RULES), ()])
@pytest.mark.parametrize('custom', [False, True])
def test_every_parameters_settings_are_mmengines(model, rules, custom) -> None:
    cfg = {rule: RULES[rule] for rule in rules} | ({'custom_keys': KEYS} if custom else {})
    if not cfg:
        return
    expected = mmengines(model, cfg)
    assert len({*expected.values()}) > 1
    found = settings(model, cfg)
    assert found.keys() == expected.keys()
    for name, pair in expected.items():
        assert found[name] == pytest.approx(pair), name


def test_every_parameter_is_in_one_group_and_the_base_rate_comes_first(model) -> None:
    groups = param_groups(model, {'custom_keys': KEYS}, OPTIMIZER)
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert (groups[0].label, groups[0].lr) == (REST, OPTIMIZER['lr'])
    assert sum(group.values for group in groups) == sum(p.numel() for p in model.parameters())


def test_without_paramwise_cfg_there_is_one_group(model) -> None:
    (group,) = param_groups(model, None, OPTIMIZER)
    assert group.label == REST


def test_new_parameters_come_before_any_key(model) -> None:
    new = {name for name, _ in model.named_parameters() if '.attention.' in name}
    cfg = {'custom_keys': {'backbone': {'lr_mult': 0.1}}, 'new': {'lr_mult': 3}}
    groups = {g.label: g for g in param_groups(model, cfg, OPTIMIZER, new)}
    assert set(groups['new'].names) == new
    assert groups['new'].lr == pytest.approx(0.006)
    assert groups["'backbone'"].lr == pytest.approx(0.0002)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (3, r'paramwise_cfg: expected dict\(\.\.\.\), got 3'),
        ({'custom_key': {}}, "no option 'custom_key'; did you mean 'custom_keys'"),
        (
            {'custom_keys': {'backbone': {'lr_mul': 1}}},
            "backbone: no option 'lr_mul'; did you mean",
        ),
        ({'custom_keys': {'backbone': {'lr_mult': -1}}}, 'lr_mult: expected a factor from 0 on'),
        ({'custom_keys': {'backbone': {'lr_mult': float('nan')}}}, 'expected a factor'),
        ({'custom_keys': {'backbone.stge2': {}}}, "'backbone.stge2' is in no.*'backbone.stage2'"),
        ({'custom_keys': {'atention': {}}}, "'atention' is in no .* did you mean 'attention'"),
        ({'custom_keys': {'neck': {}}}, 'choose one of: backbone, .*head'),
        ({'norm_decay_mult': True}, 'norm_decay_mult: expected a factor from 0 on, got True'),
        ({'new': {'lr_mult': 2}}, 'nothing is new, for no weights were loaded'),
        (
            {'custom_keys': {'head': {'param_scheduler': {'type': 'LinearLr'}}}},
            "head.param_scheduler.0: .*'LinearLr'; did you mean 'LinearLR'",
        ),
    ],
)
def test_what_makes_no_sense_is_named(model, cfg, message) -> None:
    with pytest.raises(ConfigError, match=message):
        param_groups(model, cfg, OPTIMIZER)


@pytest.mark.parametrize('option', ['lr', 'weight_decay'])
def test_a_factor_of_what_is_not_set_is_refused(model, option) -> None:
    cfg = {'custom_keys': {'head': {'lr_mult': 2, 'decay_mult': 2}}}
    optimizer = {key: value for key, value in OPTIMIZER.items() if key != option}
    with pytest.raises(ConfigError, match=rf'optimizer\.{option}, which is not set'):
        param_groups(model, cfg, optimizer)


# What a run does with them.

PART = (
    "optim_wrapper.paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5, param_scheduler="
    "dict(type='LinearLR', start_factor=0, begin=3, end=5, by_epoch=False))})"
)


def test_a_part_stands_still_until_its_schedule_begins(run: Any, tmp_path: Any) -> None:
    """'Layer-wise warm-up': what was there waits, then follows at half the rate."""
    moved = []
    for steps in (1, 3, 4, 6):
        options = ['train_cfg.max_epochs=1', f'trainer.max_steps={steps}', 'param_scheduler=None']
        run(*options, PART, f'work_dir={tmp_path / "run"}')
        moved.append(last_of(tmp_path)['state_dict'])
        (group,) = [
            g
            for g in last_of(tmp_path)['optimizer_states'][0]['param_groups']
            if g['label'] != REST
        ]
        assert group['lr'] == pytest.approx(0.0005 * 0.5 * min(max((steps - 3) / 2, 0), 1))
        for path in (tmp_path / 'run/checkpoints').iterdir():
            path.unlink()
    weight, head = 'backbone.conv1.weight', 'head.final_layer.weight'
    same = [torch.equal(moved[0][weight], state[weight]) for state in moved]
    assert same == [True, True, True, False]
    assert not torch.equal(moved[0][head], moved[1][head])


def test_resume_goes_on_with_groups_and_refuses_others(run: Any, tmp_path: Any) -> None:
    from tests.engine.conftest import forget

    whole = run('train_cfg.max_epochs=2', 'param_scheduler=None', PART)
    assert re.search(r"'backbone': \d+ tensors of ", run.log)
    assert f'{REST}: 2 tensors of ' in run.log
    forget(tmp_path)
    run('train_cfg.max_epochs=1', 'param_scheduler=None', PART)
    resumed = run('train_cfg.max_epochs=2', 'param_scheduler=None', PART, resume=True)
    assert resumed == whole[6:]
    with pytest.raises(ConfigError, match=r"(?s)trained with .*'backbone'.*but the config"):
        run('train_cfg.max_epochs=3', 'param_scheduler=None', resume=True)


def test_blocks_that_a_file_lacked_are_new_also_after_a_resume(run: Any, tmp_path: Any) -> None:
    run('train_cfg.max_epochs=1', 'trainer.max_steps=1', 'model.backbone.attention=None')
    plain = (tmp_path / 'run/checkpoints').rename(tmp_path / 'plain')
    new = (
        "optim_wrapper.paramwise_cfg=dict(new=dict(param_scheduler=[dict(type='LinearLR', end=9)]))"
    )
    options = [f'load_from={plain}/last.ckpt', 'param_scheduler=None', new]
    run(*options, 'train_cfg.max_epochs=1')
    assert 'new: 70 tensors of ' in run.log
    for path in plain.iterdir():
        path.unlink()  # what a run began with is not needed to go on
    run(*options, 'train_cfg.max_epochs=2', resume=True)
    groups = last_of(tmp_path)['optimizer_states'][0]['param_groups']
    assert [g['label'] for g in groups] == [REST, 'new']
    assert all('.attention.' in name for name in groups[1]['param_names'])
    assert groups[1]['lr'] < groups[0]['lr'] / 2


def test_schedules_multiply_within_a_part(model) -> None:
    cfg = {'custom_keys': {'head': {'param_scheduler': [{'type': 'LinearLR', 'end': 4}]}}}
    groups = param_groups(model, cfg, OPTIMIZER)
    assert [list(group.schedules) for group in groups] == [[], [LinearLR(end=4)]]
