"""Everything that is wrong with a config, not the first thing alone.

What builds and reads a config's parts for a run does so here as well, with errors collected: there
is no second list of keys. Types are looked at by themselves too, for a part inside one that cannot
be built.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from psa_pose.datasets.base import image_folder
from psa_pose.engine import build
from psa_pose.engine.check.findings import Findings
from psa_pose.engine.check.shapes import LOADERS, at
from psa_pose.engine.freeze import freeze, frozen_names
from psa_pose.engine.optim import Schedule, build_schedules
from psa_pose.engine.panels import build_panels
from psa_pose.engine.param_groups import param_groups
from psa_pose.engine.ranks import Launch, dist_options
from psa_pose.engine.step import step_options
from psa_pose.engine.strategy import build_strategy
from psa_pose.engine.train import max_nonfinite, scaled_optimizer
from psa_pose.errors import PSAPoseError
from psa_pose.registry import (
    DATASETS,
    HOOKS,
    KEYPOINT_CODECS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    Registry,
    check_arguments,
    collecting,
    config_path,
    known_keys,
)

REGISTRIES: Mapping[str, Registry | None] = {
    'model': MODELS,
    'codec': KEYPOINT_CODECS,
    'dataset': DATASETS,
    'pipeline': TRANSFORMS,
    'val_evaluator': METRICS,
    'test_evaluator': METRICS,
    'custom_hooks': HOOKS,
    'param_scheduler': PARAM_SCHEDULERS,
    'optimizer': OPTIMIZERS,
    'init_cfg': None,
    'default_hooks': None,
}
"""Where types are registered that stand below a key, up to the next of these."""


def check_config(cfg: Config, findings: Findings) -> None:
    """Look at all parts of a config but its model, data and files."""
    with kept(findings):
        check_types(cfg._cfg_dict, '', None, findings)
    readers: dict[str, Callable[[Config], Any]] = {
        'randomness': build.seed,
        'codec': build.build_codec,
        'custom_hooks': build.build_hooks,
        'optim_wrapper': step_options,
        'env_cfg': dist_options,
        'freeze': frozen_names,
        'train_cfg': max_nonfinite,
        'default_hooks': lambda cfg: build_panels(cfg, range(1)),  # type: ignore[arg-type]
        'model_wrapper_cfg': lambda cfg: build_strategy(cfg, Launch(), step_options(cfg)),
    }
    for path, read in readers.items():
        attempt(partial(read, cfg), findings, path)
    for name in LOADERS:
        if name in cfg:
            attempt(partial(build.loader_options, cfg, name), findings)
            attempt(partial(image_root, cfg, name), findings)
        elif name != 'test_dataloader':
            findings.error('config', f"'{name}' is missing")
    for name in ('optim_wrapper', 'val_evaluator'):
        if cfg.get(name) is None:
            findings.error('config', f"'{name}' is missing")
    _check_compile(cfg, findings)
    _check_schedule(cfg, findings)


def image_root(cfg: Config, name: str) -> Path:
    """The images' folder of the loader `name`."""
    dataset = build.section(build.section(cfg, name), 'dataset', name)
    with config_path(f'{name}.dataset'):
        return image_folder(dataset.get('data_root', ''), dataset.get('data_prefix'))


def check_types(value: Any, path: str, registry: Registry | None, findings: Findings) -> None:
    """The type and keywords of every `dict(type=...)` below a place of a config.

    Args:
        value: what stands there.
        path: of the place.
        registry: of types there, see `REGISTRIES`.
        findings: to add to.
    """
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if isinstance(item, Mapping) and registry is METRICS:
                item = {key: v for key, v in item.items() if key != 'prefix'}
            check_types(item, f'{path}.{i}', registry, findings)
    if not isinstance(value, Mapping):
        return
    if registry and 'type' in value:
        with kept(findings):
            own = {key: v for key, v in value.items() if key != 'type'}
            check_arguments(registry.find(value['type'], path), own, path, complete=False)
    for key, inner in value.items():
        if not path and str(key).startswith('_'):
            continue  # a helper variable
        if key == 'param_scheduler' and isinstance(inner, Mapping):
            inner = [inner]
        place = f'{path}.{key}' if path else str(key)
        check_types(inner, place, REGISTRIES.get(key, registry), findings)


def check_parts(cfg: Config, model: torch.nn.Module, findings: Findings) -> None:
    """What names parts of the model: frozen ones, and those with a rate of their own."""
    names = attempt(lambda: frozen_names(cfg), findings)
    attempt(lambda: freeze(model, names or []), findings)
    paramwise = at(cfg, 'optim_wrapper.paramwise_cfg')
    optimizer = at(cfg, 'optim_wrapper.optimizer') or {}
    new = () if cfg.get('load_from') or at(cfg, 'model.backbone.init_cfg') else None
    attempt(lambda: param_groups(model, paramwise, optimizer, new), findings)


def attempt(make: Callable[[], Any], findings: Findings, where: str = 'config') -> Any:
    """What `make` gives; its errors become findings, and then it may be None."""
    made = None
    with kept(findings, where):
        made = make()
    return made


@contextmanager
def kept(findings: Findings, where: str = 'config') -> Iterator[None]:
    """Errors inside become findings: all that are refused, and the one that ends it."""
    with collecting() as errors:
        try:
            yield
        except (PSAPoseError, OSError) as error:
            errors.append(error)  # type: ignore[arg-type]
        except Exception as error:  # a config can hold anything, and may fail in any way
            findings.error(where, f'{type(error).__name__}: {error}')
    findings.take(errors, where)


def _check_compile(cfg: Config, findings: Findings) -> None:
    step = attempt(lambda: step_options(cfg), findings)
    options = dict((step and step.compile) or {})
    if options.get('options'):
        from torch._inductor import list_options  # seconds of imports

        with kept(findings):
            known = known_keys(options['options'], list_options(), 'compile.options')
            options['options'] = dict(known)
    if options:
        try:
            torch.compile(torch.nn.Identity(), **options)
        except Exception as error:  # PyTorch's own, of many kinds
            findings.error('compile', str(error).partition('\n')[0])


def _check_schedule(cfg: Config, findings: Findings) -> None:
    """Moments that training never comes to, and a rate that no such optimizer bears."""
    epochs = at(cfg, 'train_cfg.max_epochs') or 210
    entries = cfg.get('param_scheduler')
    read = partial(build_schedules, entries, 'param_scheduler')
    schedules = attempt(read, findings, 'param_scheduler') or []
    for i, schedule in enumerate(schedules):
        _check_moments(f'param_scheduler.{i}', schedule, epochs, findings)
    step = attempt(lambda: step_options(cfg), findings)
    loader = attempt(lambda: build.loader_options(cfg, 'train_dataloader'), findings)
    if not step or not loader:
        return
    batch = loader['batch_size'] * step.accumulate
    found = attempt(lambda: scaled_optimizer(cfg, batch, step), findings)
    rate = found[0].get('lr') if found else None
    adaptive = found and str(found[0].get('type')).startswith('Adam')
    if isinstance(rate, int | float) and rate > (0.02 if adaptive else 1):
        findings.warning(
            'optim_wrapper.optimizer.lr',
            f'{found[1]}: training is likely to diverge',
            'auto_scale_lr.base_batch_size is the batch that lr was chosen for',
        )


def _check_moments(path: str, schedule: Schedule, epochs: Any, findings: Findings) -> None:
    if not schedule.by_epoch or not isinstance(epochs, int):
        return
    milestones = getattr(schedule, 'milestones', ())
    late = [m for m in milestones if isinstance(m, int | float) and m >= epochs]
    if late:
        findings.warning(
            f'{path}.milestones',
            f'{late} come after the last of {epochs} epochs (train_cfg.max_epochs)',
            'the learning rate does not fall there',
        )
    if isinstance(schedule.begin, int | float) and schedule.begin >= epochs:
        findings.warning(f'{path}.begin', f'{schedule.begin} is after the last of {epochs} epochs')
