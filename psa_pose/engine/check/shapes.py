"""Whether a config's parts are dictionaries, lists and texts where such are read."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from psa_pose.engine.check.findings import Findings

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_DICTS = (
    *('model', 'model.backbone', 'model.head', 'model.test_cfg', 'codec', 'optim_wrapper'),
    *('optim_wrapper.optimizer', 'train_cfg', 'val_cfg', 'env_cfg', 'default_hooks', 'randomness'),
    *('auto_scale_lr', 'trainer', 'model_wrapper_cfg', *LOADERS),
    *(f'{name}.{part}' for name in LOADERS for part in ('dataset', 'dataset.data_prefix')),
)
_LISTS = ('param_scheduler', 'custom_hooks', *(f'{name}.dataset.pipeline' for name in LOADERS))
_TEXTS = (
    *('load_from', 'work_dir'),
    *(f'{n}.dataset.{key}' for n in LOADERS for key in ('ann_file', 'data_root', 'bbox_file')),
)
_KINDS = (
    (_DICTS, Mapping, 'dict(...)'),
    (_LISTS, list | tuple | Mapping, 'a list of dict(...)'),
    (_TEXTS, str, 'a path'),
)


def check_shapes(cfg: Config, findings: Findings) -> bool:
    """Whether everything else that reads the config will find its parts."""
    before = len(findings)
    for paths, kind, expected in _KINDS:
        for path in paths:
            value = at(cfg, path)
            if value is not None and not isinstance(value, kind):
                findings.error(path, f'expected {expected}, got {value!r}')
    return len(findings) == before


def at(cfg: Config, path: str) -> Any:
    """What stands at a place of a config; None where nothing does."""
    value: Any = cfg._cfg_dict
    for key in path.split('.'):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
