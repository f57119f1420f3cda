"""Finding, reading, overriding and checking config files."""

from pathlib import Path

import pytest

from psa_pose import build_model
from psa_pose.engine.config import config_roots, find_config, load_config
from psa_pose.errors import ConfigError, DataError

ALL = sorted(
    str(path.relative_to(root.parent))
    for root in config_roots()[:1]
    for path in root.rglob('*.py')
    if '_base_' not in path.parts
)


@pytest.mark.parametrize('name', ALL)
def test_every_config_loads_and_leafs_are_short(name: str) -> None:
    cfg = load_config(name)
    assert {'model', 'codec', 'train_dataloader', 'val_dataloader', 'optim_wrapper'} <= set(cfg)
    assert len(find_config(name).read_text().splitlines()) <= 40


def test_a_config_is_found_by_path_and_by_name(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    expected = config_roots()[0] / 'coco' / 'hrnet_w32_256x192.py'
    assert find_config('configs/coco/hrnet_w32_256x192.py') == expected
    assert find_config('coco/hrnet_w32_256x192.py') == expected
    (tmp_path / 'mine.py').write_text('codec = None\n')
    assert find_config('mine.py') == Path('mine.py')


def test_a_misspelt_config_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'coco/hrnet_w32_psa_p_256x192.py'"):
        find_config('configs/coco/hrnet_w32_psap_256x192.py')


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('train_cfg.max_epochs=3', 3),
        ('train_cfg.max_epochs=1e-3', 0.001),
        ('train_cfg.max_epochs=true', True),
        ('train_cfg.max_epochs=None', None),
        ('train_cfg.max_epochs=some/path.json', 'some/path.json'),
        ("train_cfg.max_epochs='3'", '3'),
        ('train_cfg.max_epochs=1,2', (1, 2)),
        ('train_cfg.max_epochs=[dict(type="LinearLR", end=5), dict(a=(1, {"b": 2}))]',
         [{'type': 'LinearLR', 'end': 5}, {'a': (1, {'b': 2})}]),
    ],
)  # fmt: skip
def test_options_are_read_as_python(option: str, value: object) -> None:
    assert load_config('coco/hrnet_w32_256x192.py', [option]).train_cfg.max_epochs == value


def test_options_reach_into_lists() -> None:
    cfg = load_config('coco/hrnet_w32_256x192.py', ['param_scheduler.1.gamma=0.5'])
    assert cfg.param_scheduler[1].gamma == 0.5
    assert cfg.param_scheduler[0].type == 'LinearLR'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['train_cgf.max_epochs=3'],
            r"nothing reads the key 'train_cgf'; did you mean 'train_cfg'",
        ),
        (['max_epochs'], r"expected key=value, got 'max_epochs'"),
    ],
)
def test_unknown_keys_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config('coco/hrnet_w32_256x192.py', options)


def test_a_broken_file_is_one_error_that_names_it(tmp_path: Path) -> None:
    for text in ('model = dict(', 'model = undefined', "_base_ = './none.py'"):
        path = tmp_path / 'broken.py'
        path.write_text(text)
        with pytest.raises(ConfigError, match=r'broken.py'):
            load_config(path)


def test_custom_imports_find_a_module_beside_the_user(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_blocks.py').write_text(
        'from torch import nn\n'
        'from psa_pose.registry import MODELS\n'
        '@MODELS.register_module()\n'
        'class MyGate(nn.Identity):\n'
        '    def __init__(self, channels):\n'
        '        super().__init__()\n'
    )
    base = config_roots()[0] / 'coco' / 'hrnet_w32_256x192.py'
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{base}'\n"
        "custom_imports = dict(imports=['my_blocks'])\n"
        "model = dict(backbone=dict(arch='tiny', attention=dict(type='MyGate')))\n"
    )
    gates = [m for m in build_model('mine.py').modules() if type(m).__name__ == 'MyGate']
    assert len(gates) == 1 + 2 + 3 + 4  # a block a branch in each stage of the tiny HRNet


def test_k_of_a_custom_dataset_stands_in_its_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'annotation file nowhere/annotations/lspet_train.json'):
        build_model(
            load_config(
                'lspet/hrnet_tiny_psa_p_128x96.py', ['train_dataloader.dataset.data_root=nowhere']
            )
        )


def test_k_of_lspet_is_its_own(shared_data: Path) -> None:
    root = f'train_dataloader.dataset.data_root={shared_data / "lspet"}'
    model = build_model(load_config('lspet/hrnet_tiny_psa_p_128x96.py', [root]))
    assert model.head.final_layer.out_channels == 14
    assert model.info.names[0] == 'right_ankle'
    assert model.info.flip_indices[0] == model.info.names.index('left_ankle')
