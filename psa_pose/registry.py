"""Child registries of mmengine's, scope `psa_pose`, named as MMPose's.

`build` differs from mmengine's in three ways, each a trap that people fell into:
children resolve in *this* registry whatever the default scope is; a misspelt type or keyword is
named with its config path and the nearest valid name; nothing is passed on in silence.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine import registry as mmengine_registry

from psa_pose.errors import ConfigError, PSAPoseError, nearest

_config_path: ContextVar[tuple[str, ...]] = ContextVar('config_path', default=())


@contextmanager
def config_path(part: str) -> Iterator[str]:
    """Name the config key under which everything inside is built; yields the whole path."""
    path = (*_config_path.get(), part) if part else _config_path.get()
    token = _config_path.set(path)
    try:
        yield '.'.join(path) or 'config'
    finally:
        _config_path.reset(token)


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
            check_arguments(cls, arguments, path)
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


def check_arguments(cls: Any, arguments: Mapping[str, Any], path: str) -> None:
    """Refuse keywords that `cls` does not take, or needs and lacks; `path` is for the error."""
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in arguments:
        if name not in parameters:
            raise ConfigError(
                f"{path}: {cls.__name__} takes no keyword '{name}'; {nearest(name, parameters)}"
            )
    required = (
        n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    )
    for name in required:
        if name not in arguments:
            raise ConfigError(f"{path}: {cls.__name__} needs the keyword '{name}'")


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
