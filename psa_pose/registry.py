"""Child registries of mmengine's, scope `psa_pose`, named as MMPose's.

`build` differs from mmengine's in three ways, each a trap that people fell into:
children resolve in *this* registry whatever the default scope is; a misspelt type or keyword is
named with its config path and the nearest valid name; nothing is passed on in silence.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine import registry as mmengine_registry

from psa_pose.errors import ConfigError, PSAPoseError, nearest

_config_path: ContextVar[tuple[str, ...]] = ContextVar('config_path', default=())
_collected: ContextVar[list[PSAPoseError] | None] = ContextVar('collected', default=None)


@contextmanager
def config_path(part: str) -> Iterator[str]:
    """Name the config key under which everything inside is built; yields the whole path."""
    path = (*_config_path.get(), part) if part else _config_path.get()
    token = _config_path.set(path)
    try:
        yield '.'.join(path) or 'config'
    finally:
        _config_path.reset(token)


@contextmanager
def collecting() -> Iterator[list[PSAPoseError]]:
    """Within it `refuse` keeps errors instead of raising them: `psa-pose check` wants all."""
    found: list[PSAPoseError] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def refuse(error: PSAPoseError) -> None:
    """Raise an error after which one could go on all the same, as without a misspelt key."""
    found = _collected.get()
    if found is None:
        raise error
    found.append(error)


class Registry(mmengine_registry.Registry):
    """mmengine's registry with errors that say where and what instead."""

    def build(self, cfg: Mapping[str, Any], *, at: str = '', **defaults: Any) -> Any:
        """Build `cfg['type']` from the other keys of `cfg`.

        Args:
            cfg: `dict(type=..., **keywords)`; `type` is a registered name or a class.
            at: the key under which `cfg` stands in its parent, for error messages.
            defaults: keywords that the caller knows; `cfg` has the last word.

        Raises:
            ConfigError: unknown type or keyword, missing keyword, or a value refused by the type.
        """
        with config_path(at) as path:
            if not isinstance(cfg, Mapping) or 'type' not in cfg:
                raise ConfigError(f"{path}: expected dict(type='...', ...), got {cfg!r}")
            arguments = {**defaults, **cfg}
            cls = self.find(arguments.pop('type'), path)
            arguments = check_arguments(cls, arguments, path)
            try:
                return cls(**arguments)
            except PSAPoseError:
                raise  # already carries its own, longer path
            except (TypeError, ValueError) as error:
                raise ConfigError(f'{path} ({cls.__name__}): {error}') from error

    def find(self, kind: Any, path: str) -> Any:
        """The class registered as `kind`; `path` is for the error that names the nearest."""
        if callable(kind):
            return kind
        if not isinstance(kind, str):
            raise ConfigError(f'{path}: type must be a registered name or a class, got {kind!r}')
        try:
            found = self.get(kind)
        except RuntimeError:
            found = None
        if not callable(found):  # mmengine says 'not found' by an error, None or a module so named
            hint = nearest(kind, self.module_dict)
            raise ConfigError(f"{path}: unknown {self.name} type '{kind}'; {hint}")
        return found


def check_arguments(
    cls: Any, arguments: Mapping[str, Any], path: str, complete: bool = True
) -> dict[str, Any]:
    """The keywords that `cls` takes; refuses others, and a lack of those that it needs.

    Args:
        cls: a class or function.
        arguments: its keywords.
        path: for the error.
        complete: False where `cls` is given further ones later.
    """
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    for name in arguments:
        if name not in parameters:
            refuse(
                ConfigError(
                    f"{path}: {cls.__name__} takes no keyword '{name}'; {nearest(name, parameters)}"
                )
            )
    required = (
        n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    )
    for name in required if complete else ():
        if name not in arguments:
            raise ConfigError(f"{path}: {cls.__name__} needs the keyword '{name}'")
    return {name: value for name, value in arguments.items() if name in parameters}


def known_keys(
    options: Mapping[str, Any] | None, names: Collection[str] | None, path: str
) -> Mapping[str, Any]:
    """`options` itself, once none of its keys is unknown; None is MMPose's word for 'nothing'.

    Args:
        options: a part of a config that has no type.
        names: of the keys that it may have; None where others look at them.
        path: of `options` in the config, below the one that is being built.
    """
    if options is None:
        return {}
    with config_path(path) as whole:
        if not isinstance(options, Mapping):
            refuse(ConfigError(f'{whole}: expected dict(...), got {options!r}'))
            return {}
        if names is None:
            return options
        for key in options:
            if key not in names:
                refuse(ConfigError(f"{whole}: no option '{key}'; {nearest(str(key), names)}"))
        return {key: value for key, value in options.items() if key in names}


def _child(name: str, parent: str, location: str) -> Registry:
    return Registry(
        name,
        parent=getattr(mmengine_registry, parent),
        scope='psa_pose',
        locations=[f'psa_pose.{location}'],
    )


MODELS = _child('model', 'MODELS', 'models')
DATASETS = _child('dataset', 'DATASETS', 'datasets')
TRANSFORMS = _child('transform', 'TRANSFORMS', 'datasets.transforms')
METRICS = _child('metric', 'METRICS', 'evaluation')
OPTIMIZERS = _child('optimizer', 'OPTIMIZERS', 'engine.optim')
HOOKS = _child('hook', 'HOOKS', 'engine.ema')
PARAM_SCHEDULERS = _child('parameter scheduler', 'PARAM_SCHEDULERS', 'engine.optim')
KEYPOINT_CODECS = Registry('codec', scope='psa_pose', locations=['psa_pose.codecs'])
