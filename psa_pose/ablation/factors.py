"""What a study may vary: a factor's level is a change of the config."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config

from psa_pose.errors import ConfigError, nearest
from psa_pose.models.attention import PSA

ATTENTION: dict[str, dict[str, Any] | None] = {
    'none': None,
    'psa_parallel': {'type': 'PSA', 'layout': 'parallel'},
    'psa_sequential': {'type': 'PSA', 'layout': 'sequential'},
    'psa_official_p': {'type': 'PSA', 'variant': 'official_p'},
    'psa_official_s': {'type': 'PSA', 'variant': 'official_s'},
    'se': {'type': 'SE'},
    'cbam': {'type': 'CBAM'},
    'gc': {'type': 'GC'},
    'non_local': {'type': 'NonLocal'},
    'dense_psa': {'type': 'DensePSA'},
    'dense_psa_gated': {'type': 'DensePSA', 'fusion': 'gated'},
}

_HRNET_HEAD: dict[str, Any] = {'type': 'HeatmapHead', 'deconv_out_channels': ()}
BACKBONES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f'hrnet_{arch}': ({'type': 'HRNet', 'arch': arch}, _HRNET_HEAD)
        for arch in ('tiny', 'w18', 'w32', 'w48')
    },
    **{
        f'r{depth}': ({'type': 'ResNet', 'depth': depth}, {'type': 'HeatmapHead'})
        for depth in (18, 34, 50, 101, 152)
    },
}

CODECS: dict[str, dict[str, Any]] = {
    'msra': {'type': 'MSRAHeatmap', 'unbiased': False},
    'dark': {'type': 'MSRAHeatmap', 'unbiased': True},
    'udp': {'type': 'UDPHeatmap'},
}

PLACEMENTS = {
    'all': (1, 2, 3, 4),
    **{f'stage{stage}': (stage,) for stage in (1, 2, 3, 4)},
    'from_stage2': (2, 3, 4),
    'from_stage3': (3, 4),
}

Change = Callable[[Config], None]


def _attention(level: str) -> Change:
    def change(cfg: Config) -> None:
        cfg.model.backbone['attention'] = deepcopy(ATTENTION[level])

    return change


def _placement(level: str) -> Change:
    def change(cfg: Config) -> None:
        if cfg.model.backbone.get('attention'):
            cfg.model.backbone['attention_stages'] = PLACEMENTS[level]

    return change


def _identity_init(level: bool) -> Change:
    def change(cfg: Config) -> None:
        attention = cfg.model.backbone.get('attention') or {}
        if attention.get('type') in ('PSA', PSA):
            attention['identity_init'] = level

    return change


def _backbone(level: str) -> Change:
    def change(cfg: Config) -> None:
        backbone, head = BACKBONES[level]
        if cfg.model.backbone.get('init_cfg'):
            raise ConfigError(
                'factors.backbone: model.backbone.init_cfg holds the weights of one backbone; say '
                "it for each: backbone=dict(r50={'model.backbone': dict(type='ResNet', depth=50, "
                'init_cfg=...), ...}, ...)'
            )
        kept = ('attention', 'attention_stages')
        cfg.model['backbone'] = {
            **backbone,
            **{key: cfg.model.backbone[key] for key in kept if key in cfg.model.backbone},
        }
        others = {k: v for k, v in cfg.model.head.items() if not k.startswith('deconv_')}
        cfg.model['head'] = {**others, **head}

    return change


def _codec(level: str) -> Change:
    def change(cfg: Config) -> None:
        kept = ('input_size', 'heatmap_size', 'sigma', 'blur_kernel_size')
        codec = {key: cfg.codec[key] for key in kept if key in cfg.codec}
        if level != 'msra' and codec.get('sigma', 2) >= 3:
            codec.setdefault('blur_kernel_size', 17)  # the field's, as in configs/coco
        cfg['codec'] = {**CODECS[level], **codec}

    return change


# In the order in which they change a config: a backbone comes before what goes into it.
FACTORS: dict[str, tuple[Callable[[Any], Change], tuple[Any, ...]]] = {
    'backbone': (_backbone, tuple(BACKBONES)),
    'codec': (_codec, tuple(CODECS)),
    'attention': (_attention, tuple(ATTENTION)),
    'placement': (_placement, tuple(PLACEMENTS)),
    'identity_init': (_identity_init, (False, True)),
}
"""Known factors, what makes a change of a level, and the levels."""


def changes_of(name: str, levels: Any, where: str) -> dict[Any, Change]:
    """The levels of a factor, each with its change of the config.

    Args:
        name: of the factor.
        levels: a list of known levels, or, for any factor, a dict of names with options:
            `dict(fast={'optim_wrapper.optimizer.lr': 4e-3}, slow={...})`.
        where: the study's file, for errors.

    Raises:
        ConfigError: no such factor or level.
    """
    if isinstance(levels, Mapping):
        wrong = {key: value for key, value in levels.items() if not isinstance(value, Mapping)}
        if wrong or not levels:
            raise ConfigError(
                f'{where}: factors.{name}: expected names with dicts of options, got {wrong or {}}'
            )
        return {level: _options(options) for level, options in levels.items()}
    if name not in FACTORS:
        raise ConfigError(
            f"{where}: no factor '{name}'; {nearest(name, FACTORS)}. A factor of your own is a "
            f"dict: factors=dict({name}=dict(a={{'some.option': 1}}, b={{'some.option': 2}}))"
        )
    if not isinstance(levels, list | tuple) or not levels:
        raise ConfigError(f'{where}: factors.{name}: expected a list of levels, got {levels!r}')
    make, known = FACTORS[name]
    for level in levels:
        if not any(level == word and type(level) is type(word) for word in known):
            hint = nearest(str(level), [str(word) for word in known])
            raise ConfigError(f'{where}: factors.{name}: no level {level!r}; {hint}')
    return {level: make(level) for level in levels}


def _options(options: Mapping[str, Any]) -> Change:
    return lambda cfg: set_options(cfg, options)


def set_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Put values into a config, each whole in the place of what was there.

    Args:
        cfg: changed.
        options: by path, such as `model.backbone.depth`; numbers are places in lists.

    Raises:
        ConfigError: a path leads through something that is neither dict nor list.
    """
    for path, value in options.items():
        at: Any = cfg
        *parents, last = path.split('.')
        for depth, key in enumerate(parents):
            if isinstance(at, list):
                at = at[_index(at, key, path)]
            else:
                if at.get(key) is None:
                    at[key] = {}
                at = at[key]
            if not isinstance(at, dict | list):
                reached = '.'.join(parents[: depth + 1])
                raise ConfigError(f'option {path}: {reached} is {at!r}, neither a dict nor a list')
        at[_index(at, last, path) if isinstance(at, list) else last] = value


def _index(items: Any, key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise ConfigError(f"option {path}: no entry '{key}' of {len(items)}")
    return int(key)
