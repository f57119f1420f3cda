"""How fast each part of a model trains: what fine-tuning sets.

    optim_wrapper = dict(optimizer=..., paramwise_cfg=dict(
        custom_keys={'backbone': dict(lr_mult=0.1, decay_mult=0.5)},  # the longest key wins
        norm_decay_mult=0, bias_decay_mult=0, bias_lr_mult=2,  # also flat_ and dwconv_decay_mult
        new=dict(param_scheduler=dict(type='LinearLR', end=500, by_epoch=False))))

Words and rules of `paramwise_cfg` are MMEngine's; `new` (parameters of which no loaded file had a
value, before any key) and a part's own `param_scheduler`, times the run's, are this project's.
Parameters with the same settings make one group, for MMEngine's one each would be slow.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from psa_pose.engine.freeze import nearest_part
from psa_pose.engine.optim import Schedule, build_schedules
from psa_pose.errors import ConfigError
from psa_pose.models.checkpoints import LoadReport
from psa_pose.registry import known_keys, refuse

PATH = 'optim_wrapper.paramwise_cfg'
PART = ('lr_mult', 'decay_mult', 'param_scheduler')
RULES = (
    *('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
    *('flat_decay_mult', 'dwconv_decay_mult'),
)
REST = 'others'
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass
class ParamGroup:
    """Parameters that share their settings.

    Attributes:
        label: the key or rule that chose them.
        names: of the estimator's parameters.
        lr: learning rate, and `weight_decay`; None is the optimizer's own.
        schedules: of these alone, times those of the run.
        values: how many numbers they are.
    """

    label: str
    names: list[str]
    lr: float | None = None
    weight_decay: float | None = None
    schedules: Sequence[Schedule] = ()
    values: int = 0

    def arguments(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
        """For a `torch.optim` optimizer."""
        own = {'lr': self.lr, 'weight_decay': self.weight_decay}
        given = {key: value for key, value in own.items() if value is not None}
        named = [(name, parameters[name]) for name in self.names]
        return {'params': named, 'label': self.label, **given}

    def __str__(self) -> str:
        parts = [f'{len(self.names)} tensors of {self.values:,} values']
        parts += [f'learning rate {self.lr:.3g}'] if self.lr is not None else []
        parts += [f'decay {self.weight_decay:.3g}'] if self.weight_decay is not None else []
        parts += [str(schedule) for schedule in self.schedules]
        return f'{self.label}: {", ".join(parts)}'


@dataclass(frozen=True)
class _Part:
    label: str
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    schedules: Sequence[Schedule] = ()


def param_groups(
    model: nn.Module,
    paramwise_cfg: Any,
    optimizer: Mapping[str, Any],
    new: Collection[str] | None = None,
) -> list[ParamGroup]:
    """Groups of all parameters that train; without `paramwise_cfg` one.

    Args:
        model: the estimator, once `freeze` has been called.
        paramwise_cfg: of a config; see the head of this file.
        optimizer: the optimizer's options, whose `lr` and `weight_decay` are multiplied.
        new: names of parameters of which no loaded file had a value; None where none was loaded.

    Returns:
        The group of what no key or rule is about first, so that its rate is the one that is logged.

    Raises:
        ConfigError: a key or value that nothing reads, a custom key that is in no name.
    """
    cfg = known_keys(paramwise_cfg, ('custom_keys', 'new', *RULES), PATH)
    keys = {
        key: _part(key, options, f'{PATH}.custom_keys.{key}')
        for key, options in known_keys(cfg.get('custom_keys'), None, f'{PATH}.custom_keys').items()
    }
    rules = {name: _factor(cfg[name], f'{PATH}.{name}') for name in RULES if name in cfg}
    fresh = _part('new', cfg['new'], f'{PATH}.new') if cfg.get('new') is not None else None
    if fresh and new is None:
        raise ConfigError(f'{PATH}.new: nothing is new, for no weights were loaded (load_from)')
    _check_multiplied([*keys.values(), *([fresh] if fresh else [])], rules, optimizer)

    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for key in keys:
        if not any(key in name for name in parameters):
            frozen = any(key in name for name, _ in model.named_parameters())
            reason = 'all of it is frozen' if frozen else nearest_part(key, model)
            text = f"{PATH}.custom_keys: '{key}' is in no parameter's name; {reason}"
            refuse(ConfigError(text))
    longest_first = sorted(sorted(keys), key=len, reverse=True)
    owners = {f'{n}.{p}' if n else p: m for n, m in model.named_modules() for p in m._parameters}
    groups: dict[str, ParamGroup] = {}
    for name, parameter in parameters.items():
        matching = [keys[key] for key in longest_first if key in name]
        if fresh and name in (new or ()):
            part = fresh
        elif matching:
            part = matching[0]
        else:
            part = _by_rule(rules, name, parameter, owners[name])
        group = groups.setdefault(part.label, _group(part, optimizer))
        group.names.append(name)
        group.values += parameter.numel()
    return sorted(groups.values(), key=lambda group: group.label != REST)


def new_parameters(model: nn.Module, reports: Sequence[LoadReport | None]) -> set[str] | None:
    """Names of which none of the loaded files had a value; None where nothing was loaded."""
    loaded = [set(report.loaded) for report in reports if report]
    return {name for name, _ in model.named_parameters()}.difference(*loaded) if loaded else None


def new_of(progress: Mapping[str, Any]) -> list[str]:
    """What was new when the run of a checkpoint began; its files are not read again."""
    groups = progress['optimizer_states'][0]['param_groups']
    return [n for g in groups if g.get('label') == 'new' for n in g['param_names']]


def _by_rule(
    rules: Mapping[str, float], name: str, parameter: torch.Tensor, owner: nn.Module
) -> _Part:
    """MMEngine's order: norms first, then biases, depthwise convolutions, flat tensors."""
    is_norm, is_bias = isinstance(owner, _NORMS), name.rpartition('.')[2] == 'bias'
    depthwise = isinstance(owner, nn.Conv2d) and owner.in_channels == owner.groups
    candidates = {
        'norm_decay_mult': is_norm,
        'bias_decay_mult': is_bias,
        'dwconv_decay_mult': depthwise,
        'flat_decay_mult': parameter.ndim == 1,
    }
    used = [rule for rule, applies in candidates.items() if applies and rule in rules][:1]
    decay = rules[used[0]] if used else 1.0
    lr = rules.get('bias_lr_mult', 1.0) if is_bias and not is_norm else 1.0
    used += ['bias_lr_mult'] if is_bias and not is_norm and 'bias_lr_mult' in rules else []
    return _Part(' and '.join(used) or REST, lr, decay)


def _part(label: str, options: Any, path: str) -> _Part:
    known = known_keys(options, PART, path)
    factors = {key: _factor(known[key], f'{path}.{key}') for key in PART[:2] if key in known}
    schedules = build_schedules(known.get('param_scheduler'), f'{path}.param_scheduler')
    return _Part(f"'{label}'" if label != 'new' else label, **factors, schedules=tuple(schedules))


def _factor(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigError(f'{path}: expected a factor from 0 on, got {value!r}')
    return float(value)


def _check_multiplied(
    parts: Sequence[_Part], rules: Mapping[str, float], optimizer: Mapping[str, Any]
) -> None:
    """Defaults of torch differ from optimizer to optimizer: what is multiplied has to be said."""
    wanted = {
        'lr': any(p.lr_mult != 1 for p in parts) or 'bias_lr_mult' in rules,
        'weight_decay': any(p.decay_mult != 1 for p in parts)
        or any(name.endswith('decay_mult') for name in rules),
    }
    for option, used in wanted.items():
        if used and option not in optimizer:
            raise ConfigError(
                f'{PATH} multiplies optim_wrapper.optimizer.{option}, which is not set'
            )


def _group(part: _Part, optimizer: Mapping[str, Any]) -> ParamGroup:
    lr, decay = optimizer.get('lr'), optimizer.get('weight_decay')
    return ParamGroup(
        part.label,
        [],
        None if lr is None else lr * part.lr_mult,
        None if decay is None else decay * part.decay_mult,
        part.schedules,
    )
