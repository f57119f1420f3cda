"""MMPose's classes around this project's networks, in MMPose's own process."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mmpose.conftest import Run

HERE = ROOT / 'tests' / 'mmpose'


def test_mmpose_builds_our_networks_with_nothing_but_its_own_packages(run: Run) -> None:
    """MMPose's configs with another backbone type and `attention`: shapes, blocks, gradients."""
    answer = json.loads(run('python', HERE / 'builds.py').splitlines()[-1])
    assert [(b['type'], b['attention'], b['blocks'] > 0) for b in answer['built']] == [
        ('psa_pose.HRNet', 'PSA', True),
        ('psa_pose.HRNet', 'PSA', True),
        ('psa_pose.HRNet', 'DensePSA', True),
        ('psa_pose.ResNet', 'PSA', True),
        ('psa_pose.ResNet', 'PSA', True),
        ('psa_pose.ResNet', 'DensePSA', True),
        ('psa_pose.ResNet', 'NonLocal', True),
        ('psa_pose.ResNet', None, False),
    ]
    for built in answer['built']:
        assert built['shape'] == [2, 17, 16, 16]
        dead = built['without gradient']
        if built['attention'] == 'NonLocal':  # an identity at first, so only its exit learns
            dead = [name for name in dead if '.attention.' not in name]
        assert dead == []
    assert answer['same names'] == [True, True], "MMPose's own weights would not load"


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            "type='psa_pose.HRNet', arch='w32', attention=dict(type='Psa')",
            "attention: unknown model type 'Psa'; did you mean 'PSA'?",
        ),
        ("type='psa_pose.HRNet', arch='w32', norm_eval=True", "argument 'norm_eval'"),
        (
            "type='psa_pose.HRNet', extra=dict(stage4=dict(multiscale_output=True))",
            'multiscale_output: this HRNet gives one map only',
        ),
    ],
)
def test_mistakes_in_mmposes_config_are_named(run: Run, options: str, message: str) -> None:
    code = f"""
from mmpose.registry import MODELS
try:
    MODELS.build(dict({options}))
except (TypeError, ValueError) as error:
    print('refused:', error)
"""
    output = run('python', '-c', code)
    assert 'refused: ' in output and message in output


def test_mmengine_takes_custom_imports_as_a_dict_only(run: Run, tmp_path: Path) -> None:
    """What docs/mmpose.md says; should MMEngine ever take a list, the page may say that."""
    config = tmp_path / 'list.py'
    config.write_text("custom_imports = ['psa_pose']\n")
    code = f"""
from mmengine.config import Config
try:
    Config.fromfile({str(config)!r})
except TypeError as error:
    print('refused:', error)
"""
    assert 'refused: ' in run('python', '-c', code)
