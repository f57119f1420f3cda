"""What is frozen stands still to the last bit, statistics included, and the rest trains."""

from pathlib import Path
from typing import Any

import pytest
import torch

from psa_pose.errors import ConfigError
from tests.engine.conftest import forget, last_of

STILL = ['backbone.conv1', 'backbone.bn1', 'backbone.stage2', 'head.final_layer.bias']
FREEZE = f'freeze={STILL}'


def is_still(name: str) -> bool:
    return any(name == part or name.startswith(f'{part}.') for part in STILL)


def test_frozen_parts_stand_still_and_the_rest_trains(run: Any, tmp_path: Path) -> None:
    # Over an evaluation, after which everything trains again.
    options = ['train_cfg.val_interval=1', 'param_scheduler=None']
    run('train_cfg.max_epochs=1', 'trainer.max_steps=1', *options)
    start = (tmp_path / 'run/checkpoints').rename(tmp_path / 'start') / 'last.ckpt'
    run('train_cfg.max_epochs=2', f'load_from={start}', FREEZE, *options)
    before, after = torch.load(start, weights_only=True)['state_dict'], last_of(tmp_path)
    for name, value in after['state_dict'].items():
        # A bias before BatchNorm has no gradient but rounding's; all others do.
        assert torch.equal(value, before[name]) == is_still(name), name
    assert any(is_still(name) and name.endswith('running_mean') for name in before)
    (group,) = after['optimizer_states'][0]['param_groups']
    assert not any(is_still(name) for name in group['param_names'])
    assert len(group['param_names']) == len(after['optimizer_states'][0]['state'])
    assert (
        'frozen backbone.conv1, backbone.bn1, backbone.stage2, head.final_layer.bias: ' in run.log
    )
    count = sum(v.numel() for n, v in before.items() if is_still(n) and not _is_statistic(n))
    assert f'{count:,} of ' in run.log


def _is_statistic(name: str) -> bool:
    return name.rpartition('.')[2] in ('running_mean', 'running_var', 'num_batches_tracked')


def test_resume_keeps_it_and_refuses_another(run: Any, tmp_path: Path) -> None:
    options = ['param_scheduler=None', FREEZE]
    whole = run('train_cfg.max_epochs=2', *options)
    forget(tmp_path)
    run('train_cfg.max_epochs=1', *options)
    assert run('train_cfg.max_epochs=2', *options, resume=True) == whole[6:]
    with pytest.raises(ConfigError, match=r'(?s)trained with .*frozen.*but the config now says'):
        run('train_cfg.max_epochs=3', 'param_scheduler=None', resume=True)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['freeze=["backbone.stge2"]'],
            "no module or parameter 'backbone.stge2'; .*backbone.stage2",
        ),
        (['freeze=["neck"]'], "no module or parameter 'neck'; choose one of: backbone,"),
        (['freeze=["backbone", "head"]'], 'is everything; nothing would be left to train'),
        (['freeze=[""]'], "no module or parameter ''"),
        (['freeze=backbone'], r"freeze: expected a list of names of modules, got 'backbone'"),
        (['model.backbone.frozen_stages=1'], r"frozen_stages: .*freeze=\['backbone.conv1'"),
        (
            ['freeze=["head"]', "optim_wrapper.paramwise_cfg=dict(custom_keys={'head': dict()})"],
            "'head' is in no parameter's name; all of it is frozen",
        ),
    ],
)
def test_what_makes_no_sense_is_named(run: Any, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run('train_cfg.max_epochs=1', *options)
