"""Reading config files: found in a checkout or in the wheel, checked, overridden."""

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

import psa_pose
from psa_pose.errors import ConfigError, nearest
from psa_pose.registry import known_keys, refuse

PACKAGE = 'psa_pose::'
"""Before the name of one of the project's configs in `_base_`, wherever the config itself lies."""

KEYS = {
    'model',
    'codec',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'val_evaluator',
    'test_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'env_cfg',
    'sync_bn',
    'model_wrapper_cfg',
    'compile',
    'custom_hooks',
    'auto_scale_lr',
    'train_cfg',
    'val_cfg',
    'default_hooks',
    'vis_backends',
    'visualizer',
    'trainer',
    'randomness',
    'load_from',
    'freeze',
    'work_dir',
    'custom_imports',
    'default_scope',
}
"""What may stand at the top of a config; names of helpers start with an underscore."""


def config_roots() -> list[Path]:
    """Folders that hold the project's configs: the wheel's, or the checkout's."""
    package = Path(psa_pose.__file__).parent
    return [path for path in (package / 'configs', package.parent / 'configs') if path.is_dir()][:1]


def find_config(name: str | Path) -> Path:
    """The file that a config's name means: a path, or one of the project's configs.

    Args:
        name: such as `my.py`, `configs/coco/x.py` or `coco/x.py`.

    Raises:
        ConfigError: nothing by this name; says the nearest.
    """
    path = Path(name)
    if path.is_file():
        return path
    inside = Path(*path.parts[1:]) if path.parts[:1] == ('configs',) else path
    for root in config_roots():
        if (root / inside).is_file():
            return root / inside
    known = [
        str(file.relative_to(root))
        for root in config_roots()
        for file in root.rglob('*.py')
        if '_base_' not in file.parts
    ]
    raise ConfigError(f'no config file {name}; {nearest(str(inside), known)}')


def load_config(name: str | Path, options: Sequence[str] = ()) -> Config:
    """Read a config file with its bases, and lay `key=value` options over it.

    Raises:
        ConfigError: the file cannot be read, or it has a key that nothing reads.
    """
    path = find_config(name)
    cwd = str(Path.cwd())
    sys.path.insert(0, cwd)  # so that custom_imports finds modules beside the user
    try:
        with _package_bases():
            config = Config.fromfile(path, import_custom_modules=False)
        imports = known_keys(
            config.get('custom_imports'), ('imports', 'allow_failed_imports'), 'custom_imports'
        )
        if imports:
            import_modules_from_strings(**imports)
    except ConfigError:
        raise
    except Exception as error:  # a config is a program, and may fail in any way
        raise ConfigError(f'config {path}: {type(error).__name__}: {error}') from error
    finally:
        sys.path.remove(cwd)
    for option in options:
        key, value = _parse_option(option)
        try:
            config.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError) as error:
            raise ConfigError(f"--cfg-options: cannot set '{key}': {error}") from error
    _check_keys(config, path)
    return config


@contextmanager
def _package_bases() -> Iterator[None]:
    """Let `_base_ = 'psa_pose::coco/x.py'` find the project's configs, in a checkout or the wheel.

    MMEngine has the notation, but looks where only its own installer puts configs.
    """
    theirs = Config._get_cfg_path

    def find(name: str, file: str) -> tuple[str, str | None]:
        if not name.startswith(PACKAGE):
            return theirs(name, file)
        name = name.removeprefix(PACKAGE).removeprefix('configs/')
        for root in config_roots():
            if (root / name).is_file():
                return str(root / name), None
        known = [str(f.relative_to(root)) for root in config_roots() for f in root.rglob('*.py')]
        raise ConfigError(f"config {file}: _base_: no '{PACKAGE}{name}'; {nearest(name, known)}")

    Config._get_cfg_path = staticmethod(find)
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(theirs)


def _check_keys(config: Config, path: Path) -> None:
    for key in config:
        if key not in KEYS and not key.startswith('_'):
            refuse(
                ConfigError(
                    f"config {path}: nothing reads the key '{key}'; {nearest(key, KEYS)} "
                    '(a helper variable starts with an underscore)'
                )
            )


def _parse_option(option: str) -> tuple[str, Any]:
    key, equals, text = option.partition('=')
    if not key or not equals:
        raise ConfigError(f"--cfg-options: expected key=value, got '{option}'")
    try:
        return key, literal(ast.parse(text, mode='eval').body)
    except (SyntaxError, ValueError):
        return key, text  # a bare word, such as a path


def literal(node: ast.expr) -> Any:
    """A Python literal that may contain `dict(...)`, as config files write it."""
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords):
            return {str(keyword.arg): literal(keyword.value) for keyword in keywords}
        case ast.List(elts=items):
            return [literal(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(literal(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {ast.literal_eval(k): literal(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.Name(id=word) if word.lower() in ('true', 'false', 'none'):
            return {'true': True, 'false': False, 'none': None}[word.lower()]
    return ast.literal_eval(node)
