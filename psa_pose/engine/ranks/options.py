"""How long ranks wait for each other, and what must be the same on all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config

import psa_pose
from psa_pose.engine.build import whole_number
from psa_pose.engine.step import StepOptions
from psa_pose.errors import ConfigError
from psa_pose.registry import known_keys

BACKENDS = ('nccl', 'gloo')


@dataclass(frozen=True)
class DistOptions:
    """`env_cfg.dist_cfg`, MMEngine's words.

    Attributes:
        backend: of collectives; None takes NCCL with GPUs and gloo without.
        timeout: seconds that a collective may take, or a process to join.
        heartbeat_timeout: seconds after which a silent rank counts as dead.
    """

    backend: str | None = None
    timeout: int = 1800
    heartbeat_timeout: int = 60


def dist_options(cfg: Config) -> DistOptions:
    """Read `env_cfg.dist_cfg`.

    Raises:
        ConfigError: a key or a value that it cannot have.
    """
    path = 'env_cfg.dist_cfg'
    options = known_keys(
        (cfg.get('env_cfg') or {}).get('dist_cfg'),
        ('backend', 'timeout', 'heartbeat_timeout'),
        path,
    )
    backend = options.get('backend')
    if backend not in (None, *BACKENDS):
        raise ConfigError(f'{path}.backend must be one of {BACKENDS}, got {backend!r}')
    return DistOptions(
        backend,
        whole_number(options.get('timeout', DistOptions.timeout), f'{path}.timeout'),
        whole_number(
            options.get('heartbeat_timeout', DistOptions.heartbeat_timeout),
            f'{path}.heartbeat_timeout',
        ),
    )


def what_runs(cfg: Config, step: StepOptions) -> dict[str, str]:
    """What must be the same on all ranks, for `Ranks.same`; data is compared by its content."""
    versions = {'torch': torch.__version__, 'psa-pose': psa_pose.__version__}
    return {
        'config': '\n'.join(_leaves(cfg._cfg_dict.to_dict(), '')),
        'versions': str(versions),
        'device and precision': f'{step.device}: {step}',
    }


def _leaves(value: Any, path: str) -> Iterator[str]:
    """Lines 'a.b.0.c=value', as `--cfg-options` takes them."""
    if not isinstance(value, dict | list | tuple):
        yield f'{path}={value!r}'
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if key != 'data_root':
            yield from _leaves(inner, f'{path}.{key}' if path else str(key))
