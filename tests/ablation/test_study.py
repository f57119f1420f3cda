"""Study files: what they make, and what is refused."""

import itertools
import math

import pytest
import torch

from psa_pose.ablation import read_study
from psa_pose.ablation.factors import ATTENTION, FACTORS
from psa_pose.engine.build import build_model
from psa_pose.engine.config import find_config, load_config
from psa_pose.engine.optim import build_schedules, lr_factor
from psa_pose.engine.param_groups import param_groups
from psa_pose.errors import ConfigError
from psa_pose.registry import KEYPOINT_CODECS
from psa_pose.structures import COCO_KEYPOINTS
from tests.conftest import ROOT

BASE = 'configs/demo/hrnet_tiny_psa_p_128x96.py'


def write(folder, **changes):
    content = {
        'base': BASE,
        'factors': {'attention': ['none', 'psa_parallel']},
        'budget': {'epochs': 2},
        **changes,
    }
    path = folder / 'study.py'
    path.write_text(''.join(f'{k} = {v!r}\n' for k, v in content.items() if v is not None))
    return path


def read(folder, **changes):
    return read_study(write(folder, **changes))


class TestArms:
    def test_every_combination_and_seed(self, tmp_path):
        factors = {'attention': ['none', 'psa_parallel', 'se'], 'codec': ['msra', 'udp']}
        study = read(tmp_path, factors=factors, seeds=[3, 5])
        assert list(study.arms) == [f'{a}-{c}' for a, c in itertools.product(*factors.values())]
        assert len(study.cells()) == 12
        assert study.baseline == 'none-msra'
        cell = next(c for c in study.cells() if c.name == 'se-udp/seed5')
        assert cell.config.model.backbone.attention == {'type': 'SE'}
        assert cell.config.codec.type == 'UDPHeatmap'
        assert cell.config.codec.input_size == (96, 128)
        assert cell.config.randomness.seed == 5

    @pytest.mark.parametrize('size', ['256x192', '384x288'])
    def test_codecs_are_those_of_the_configs(self, tmp_path, size):
        base, factors = f'coco/hrnet_w32_{size}.py', {'codec': ['msra', 'dark', 'udp']}
        study = read(tmp_path, base=str(ROOT / 'configs' / base), factors=factors)
        for level, name in (('msra', ''), ('dark', '_dark'), ('udp', '_udp')):
            shipped = load_config(ROOT / f'configs/coco/hrnet_w32{name}_{size}.py').codec
            built = (KEYPOINT_CODECS.build(dict(c)) for c in (study.configs[level].codec, shipped))
            ours, theirs = (vars(codec) for codec in built)
            if level == 'msra':  # it blurs nothing
                assert ours.pop('kernel') and theirs.pop('kernel')
            assert ours == theirs

    def test_levels_do_not_reach_into_each_other(self, tmp_path):
        factors = {'attention': ['psa_parallel', 'none'], 'identity_init': [False, True]}
        study = read(tmp_path, factors=factors)
        kinds = {arm: cfg.model.backbone.attention for arm, cfg in study.configs.items()}
        assert kinds['psa_parallel-no_identity_init']['identity_init'] is False
        assert kinds['psa_parallel-identity_init']['identity_init'] is True
        assert ATTENTION['psa_parallel'] == {'type': 'PSA', 'layout': 'parallel'}

    def test_arms_that_would_train_the_same_come_once(self, tmp_path):
        factors = {'attention': ['none', 'psa_parallel'], 'placement': ['all', 'stage4']}
        study = read(tmp_path, factors=factors)
        assert list(study.arms) == ['none-all', 'psa_parallel-all', 'psa_parallel-stage4']

    def test_every_known_level_builds(self, tmp_path):
        for name, (_, levels) in FACTORS.items():
            study = read(tmp_path, factors={name: list(levels)})
            assert len(study.arms) == len(levels)

    def test_a_backbone_keeps_attention_and_takes_its_head(self, tmp_path):
        study = read(tmp_path, factors={'backbone': ['hrnet_tiny', 'r18']})
        model = study.configs['r18'].model
        assert model.backbone == {
            'type': 'ResNet',
            'depth': 18,
            'attention': model.backbone['attention'],
        }
        assert 'deconv_out_channels' not in model.head
        assert study.configs['hrnet_tiny'].model.head['deconv_out_channels'] == ()

    def test_baselines(self, tmp_path):
        factors = {'attention': ['none', 'psa_parallel', 'se'], 'placement': ['all', 'stage4']}
        all_with_one = read(tmp_path, factors=factors)
        assert set(all_with_one.baselines.values()) == {'none-all'}
        alike = read(tmp_path, factors=factors, baseline={'placement': 'stage4'})
        assert alike.baselines == {
            'none-all': 'none-all',  # which is none-stage4, too
            'psa_parallel-all': 'psa_parallel-stage4',
            'psa_parallel-stage4': 'psa_parallel-stage4',
            'se-all': 'se-stage4',
            'se-stage4': 'se-stage4',
        }
        assert alike.baseline == 'none-all'
        other = read(tmp_path, factors=factors, baseline={'attention': 'se'})
        assert other.baseline == other.baselines['none-all'] == 'se-all'
        assert other.baselines['psa_parallel-stage4'] == 'se-stage4'

    def test_factors_of_ones_own(self, tmp_path):
        rates = {
            'slow': {'optim_wrapper.optimizer.lr': 1e-4},
            'fast': {'optim_wrapper.optimizer.lr': 1e-2},
        }
        study = read(tmp_path, factors={'rate': rates}, baseline={'rate': 'fast'})
        assert study.configs['slow'].optim_wrapper.optimizer.lr == 1e-4
        assert study.baseline == 'fast'

    def test_a_base_beside_the_study_or_one_of_the_projects(self, tmp_path, monkeypatch):
        beside = tmp_path / 'mine.py'
        beside.write_text(
            f'_base_ = {str(find_config(BASE).resolve())!r}\nrandomness = dict(seed=7)\n'
        )
        study = write(tmp_path, base='mine.py')
        elsewhere = tmp_path / 'elsewhere'
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        assert read_study(study).configs['none'].randomness.seed == 7
        assert len(read_study(write(tmp_path)).arms) == 2

    def test_test_data_are_no_part_of_it(self, tmp_path):
        (tmp_path / 'mine.py').write_text(
            f'_base_ = {str(find_config(BASE).resolve())!r}\ntest_dataloader = dict(batch_size=1)\n'
        )
        assert 'test_dataloader' not in read(tmp_path, base='mine.py').configs['none']


class TestBudget:
    def test_epochs(self, tmp_path):
        cfg = read(tmp_path, budget={'epochs': 5}).cells()[0].config
        assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (5, 5)

    def test_minutes_are_the_steps_of_each_arm(self, tmp_path):
        cells = read(tmp_path, budget={'minutes': 1}).cells({'none': 60, 'psa_parallel': 40})
        steps = {cell.arm: cell.config.trainer['max_steps'] for cell in cells}
        assert steps == {'none': 60, 'psa_parallel': 40}

    @pytest.mark.parametrize('budget', [{'epochs': 21}, {'steps': 2100}])
    def test_the_rate_falls_within_it_as_it_would_have(self, tmp_path, budget):
        """210 epochs with steps at 170 and 200, a tenth of them, at 100 steps an epoch."""
        study = read(tmp_path, base='configs/coco/hrnet_w32_256x192.py', budget=budget)
        schedules = build_schedules(study.cells()[0].config.param_scheduler, 'param_scheduler')
        rates = [lr_factor(schedules, step, 100, 2100) for step in (600, 1650, 1850, 2010, 2099)]
        expected = [1, 1, 0.1, 0.01, 0.01]
        assert rates == pytest.approx(expected)
        assert lr_factor(schedules, 250, 100, 2100) == pytest.approx(0.5, abs=0.01)  # warm-up


class TestRefused:
    @pytest.mark.parametrize(
        ('changes', 'words'),
        [
            ({'factor': {}}, "no key 'factor'; did you mean 'factors'?"),
            ({'base': None}, "'base' is missing"),
            ({'base': 'configs/demo/hrnet_tiny_psa_p_128x69.py'}, 'no config file'),
            ({'factors': {}}, 'nothing is varied'),
            (
                {'factors': {'atention': ['none']}},
                "no factor 'atention'; did you mean 'attention'?",
            ),
            ({'factors': {'attention': ['psa_paralel']}}, "did you mean 'psa_parallel'?"),
            ({'factors': {'attention': 'none'}}, 'expected a list of levels'),
            ({'factors': {'identity_init': [0, 1]}}, 'no level 0'),
            ({'factors': {'rate': {'a': 1}}}, 'expected names with dicts of options'),
            ({'factors': {'rate': {'a/b': {}}}}, 'cannot be the name of a folder'),
            ({'factors': {'rate': {'..': {}}}}, 'cannot be the name of a folder'),
            (
                {
                    'factors': {
                        'x': {'a-b': {'load_from': '1'}, 'a': {'load_from': '2'}},
                        'y': {'c': {'freeze': ['1']}, 'b-c': {'freeze': ['2']}},
                    }
                },
                "would both be called 'a-b-c'",
            ),
            ({'baseline': {'attention': 'se'}}, "baseline.attention: no level 'se'"),
            ({'baseline': {'codec': 'udp'}}, "baseline: no factor 'codec'"),
            ({'budget': {'epoch': 3}}, "did you mean 'epochs'?"),
            ({'budget': {'epochs': 3, 'steps': 4}}, 'expected one of'),
            ({'budget': {'epochs': 2.5}}, 'expected a whole number above 0, got 2.5'),
            ({'budget': {'minutes': 0}}, 'expected a number above 0'),
            (
                {
                    'factors': {'backbone': ['hrnet_tiny', 'r18']},
                    'options': {'model.backbone.init_cfg': {'type': 'Pretrained'}},
                },
                'holds the weights of one backbone',
            ),
            ({'seeds': [1, 1]}, 'expected different whole numbers'),
            ({'seeds': 3}, 'expected different whole numbers'),
            ({'rule': 'most'}, "expected 'max' or 'min'"),
            ({'options': {'modle.backbone.attention': None}}, "nothing reads the key 'modle'"),
            ({'options': {'model.type.x': 1}}, "option model.type.x: model.type is 'Topdown"),
        ],
    )
    def test_with_what_is_wrong(self, tmp_path, changes, words):
        with pytest.raises(ConfigError) as error:
            read(tmp_path, **changes)
        assert words in str(error.value)

    def test_what_is_an_error_is_better_when_less(self, tmp_path):
        assert read(tmp_path, metric='EPE', also=['AP', 'x/NME']).less_is_better == {'EPE', 'x/NME'}
        assert read(tmp_path, metric='EPE', rule='max', also='NME').less_is_better == {'NME'}
        assert read(tmp_path, metric='loss', rule='min').less_is_better == {'loss'}

    def test_a_study_that_fails_to_run(self, tmp_path):
        path = tmp_path / 'study.py'
        path.write_text('base = 1 / 0\n')
        with pytest.raises(ConfigError, match='ZeroDivisionError'):
            read_study(path)
        with pytest.raises(ConfigError, match='no study file'):
            read_study(tmp_path / 'none.py')


@pytest.mark.parametrize('file', sorted((ROOT / 'studies').glob('*.py')), ids=lambda f: f.stem)
def test_the_projects_own_studies(file):
    """Every arm's network and optimizer can be built; no arm is another one's double."""
    study = read_study(file)
    arms = list(study.arms.values())
    levels = [{arm[factor] for arm in arms} for factor in arms[0]]
    assert 1 < len(arms) == math.prod(map(len, levels))
    for cfg in study.configs.values():
        with torch.device('meta'):
            model = build_model(cfg, COCO_KEYPOINTS)
        wrapper = cfg.optim_wrapper
        groups = param_groups(model, wrapper.get('paramwise_cfg'), wrapper.optimizer)
        assert sum(len(group.names) for group in groups) == len(list(model.parameters()))
