"""Errors of a config say where and what instead; children resolve in our scope."""

import pytest
from mmengine import registry as mmengine_registry
from mmengine.registry import DefaultScope

from psa_pose.errors import ConfigError, DataError, nearest
from psa_pose.registry import MODELS, Registry, config_path

PARTS = Registry('part', scope='psa_pose_test')


@PARTS.register_module()
class Attention:
    def __init__(self, reduction: int = 2, variant: str = 'paper') -> None:
        if variant not in ('paper', 'other'):
            raise ValueError(f"variant must be 'paper' or 'other', got '{variant}'")
        self.reduction, self.variant = reduction, variant


@PARTS.register_module()
class Backbone:
    def __init__(self, depth: int, attention: dict | None = None) -> None:
        self.depth = depth
        self.attention = PARTS.build(attention, at='attention') if attention else None


@PARTS.register_module()
class Estimator:
    def __init__(self, backbone: dict) -> None:
        self.backbone = PARTS.build(backbone, at='backbone')


@PARTS.register_module()
class Broken:
    def __init__(self, error: Exception) -> None:
        raise error


@PARTS.register_module()
class Greedy:
    def __init__(self, first: int, *rest: int, **options: int) -> None:
        self.options = options


def nested(attention: object) -> dict:
    return {
        'type': 'Estimator',
        'backbone': {'type': 'Backbone', 'depth': 50, 'attention': attention},
    }


def message_of(cfg: object, at: str = 'model') -> str:
    with pytest.raises(ConfigError) as caught:
        PARTS.build(cfg, at=at)
    return str(caught.value)


class TestErrors:
    def test_unknown_type_names_its_path_and_the_nearest(self):
        message = message_of(nested({'type': 'Atention'}))
        assert message.startswith('model.backbone.attention: ')
        assert "'Atention'" in message
        assert "did you mean 'Attention'?" in message

    def test_unknown_type_in_another_case_finds_the_nearest(self):
        assert "did you mean 'Attention'?" in message_of(nested({'type': 'ATTENTION'}))

    def test_unknown_type_without_anything_near_lists_all(self):
        message = message_of({'type': 'Xyzzy'})
        assert 'choose one of: Attention, Backbone, Broken, Estimator, Greedy' in message

    def test_unknown_keyword_names_its_path_and_the_nearest(self):
        message = message_of(nested({'type': 'Attention', 'reducton': 4}))
        assert message.startswith('model.backbone.attention: Attention ')
        assert "'reducton'" in message
        assert "did you mean 'reduction'?" in message

    def test_missing_keyword_names_its_path(self):
        message = message_of({'type': 'Estimator', 'backbone': {'type': 'Backbone'}})
        assert message == "model.backbone: Backbone needs the keyword 'depth'"

    def test_refused_value_names_its_path_and_keeps_the_reason(self):
        message = message_of(nested({'type': 'Attention', 'variant': 'papr'}))
        assert message.startswith('model.backbone.attention (Attention): ')
        assert "got 'papr'" in message

    def test_refused_value_is_not_wrapped_twice(self):
        message = message_of(nested({'type': 'Attention', 'variant': 'papr'}))
        assert message.count('(') == 1

    @pytest.mark.parametrize(
        'cfg', [None, 'Attention', {}, {'reduction': 2}, [{'type': 'Backbone'}]]
    )
    def test_what_is_no_config_names_its_path(self, cfg):
        assert message_of(
            nested(cfg) if cfg else {'type': 'Estimator', 'backbone': cfg}
        ).startswith('model.backbone')

    @pytest.mark.parametrize('kind', [None, 5])
    def test_a_type_that_is_no_name_names_its_path(self, kind):
        assert message_of(nested({'type': kind})).startswith('model.backbone.attention: ')

    def test_the_name_of_a_module_is_no_type(self):
        assert "unknown part type 'json'" in message_of({'type': 'json'})

    def test_without_a_path_it_says_config(self):
        assert message_of({'type': 'Xyzzy'}, at='').startswith('config: ')

    def test_errors_for_users_pass_unchanged(self):
        error = DataError('some file')
        with pytest.raises(DataError) as caught:
            PARTS.build({'type': 'Broken', 'error': error}, at='model')
        assert caught.value is error

    def test_bugs_keep_their_type(self):
        with pytest.raises(ZeroDivisionError):
            PARTS.build({'type': 'Broken', 'error': ZeroDivisionError()}, at='model')

    def test_the_path_is_forgotten_after_an_error(self):
        message_of(nested({'type': 'Atention'}))
        assert message_of({'type': 'Xyzzy'}, at='head').startswith('head: ')

    def test_config_path_nests_and_leaves(self):
        with config_path('a') as outer, config_path('b') as inner:
            assert (outer, inner) == ('a', 'a.b')
        with config_path('c') as path:
            assert path == 'c'

    def test_model_registry_names_the_whole_path(self):
        cfg = {'type': 'ResNet', 'depth': 50, 'attention': {'type': 'PolarisedSelfAttention'}}
        with pytest.raises(ConfigError, match=r'^model\.backbone') as caught, config_path('model'):
            MODELS.build(cfg, at='backbone')
        assert 'PolarisedSelfAttention' in str(caught.value)


class TestBuild:
    def test_defaults_fill_what_the_config_leaves_open(self):
        assert PARTS.build({'type': 'Attention'}, reduction=8).reduction == 8

    def test_the_config_has_the_last_word(self):
        assert PARTS.build({'type': 'Attention', 'reduction': 4}, reduction=8).reduction == 4

    def test_a_default_that_the_type_does_not_take_is_refused(self):
        with pytest.raises(ConfigError, match="no keyword 'width'"):
            PARTS.build({'type': 'Attention'}, width=8)

    def test_a_class_may_stand_for_its_name(self):
        assert PARTS.build({'type': Attention, 'reduction': 3}).reduction == 3

    def test_the_config_is_not_changed(self):
        cfg = nested({'type': 'Attention', 'reduction': 4})
        PARTS.build(cfg)
        assert cfg == nested({'type': 'Attention', 'reduction': 4})

    def test_open_keywords_are_passed_on(self):
        assert PARTS.build({'type': 'Greedy', 'first': 1, 'any': 2}).options == {'any': 2}

    def test_children_resolve_here_whatever_the_default_scope(self):
        other = mmengine_registry.Registry('part', scope='elsewhere')

        @other.register_module(name='Attention')
        class Foreign:
            pass

        with DefaultScope.overwrite_default_scope('elsewhere'):
            estimator = PARTS.build(nested({'type': 'Attention'}))
        assert type(estimator.backbone.attention) is Attention

    def test_our_models_resolve_in_mmpose_s_scope_too(self):
        cfg = {'type': 'ResNet', 'depth': 50}
        with DefaultScope.overwrite_default_scope('mmpose'):
            backbone = MODELS.build(cfg)
        assert type(backbone).__module__ == 'psa_pose.models.backbones.resnet'

    @pytest.mark.parametrize('scope', ['mmengine', 'mmpose'])
    def test_other_frameworks_find_our_models_by_prefix(self, scope):
        cfg = {'type': 'psa_pose.HRNet', 'arch': 'tiny', 'attention': {'type': 'PSA'}}
        theirs = mmengine_registry.MODELS
        with DefaultScope.overwrite_default_scope(scope):
            backbone = theirs.build(cfg)
        assert type(backbone) is MODELS.get('HRNet')


class TestNearest:
    def test_the_case_does_not_decide_what_is_near(self):
        assert nearest('adamw', ['Adam', 'AdamW', 'SGD']) == "did you mean 'AdamW'?"

    def test_no_candidates(self):
        assert nearest('x', []) == 'none is known'
