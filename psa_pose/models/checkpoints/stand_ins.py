"""What stands in a foreign checkpoint for objects of classes that are no weights.

MMPose's files hold logs and settings beside the weights. torch's safe unpickler refuses them
unless their class is allowed by name; allowed here are classes of the same names that hold nothing
and do nothing, so no code of the file's or of another library's runs.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

_IGNORED = {  # objects whose content nobody needs to load weights
    'argparse': ('Namespace',),
    'builtins': ('getattr',),  # by which a pickle names a method
    'datetime': ('datetime', 'date', 'time', 'timedelta', 'timezone'),
    'mmcv.utils.config': ('Config',),
    'mmengine.config.config': ('Config',),
    'mmengine.logging.history_buffer': ('HistoryBuffer',),
    'numpy': ('ndarray', 'dtype'),
    'numpy.core.multiarray': ('scalar', '_reconstruct'),
    'numpy._core.multiarray': ('scalar', '_reconstruct'),
    'pathlib': ('Path', 'PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath'),
    'pathlib._local': ('PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath'),
    'torch.torch_version': ('TorchVersion',),
}
_DICTIONARIES = {  # dictionaries by another name: their entries are read like any other
    'addict.addict': ('Dict',),
    'easydict': ('EasyDict',),
    'lightning.fabric.utilities.data': ('AttributeDict',),
    'lightning_fabric.utilities.data': ('AttributeDict',),
    'mmcv.utils.config': ('ConfigDict',),
    'mmengine.config.config': ('ConfigDict',),
    'pytorch_lightning.utilities.parsing': ('AttributeDict',),
    'yacs.config': ('CfgNode',),
}


class StandIn:
    """Takes whatever a pickle gives it and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'StandIn':
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _plain_dictionary(cls: type, *args: Any) -> OrderedDict:
    return OrderedDict(*args)


def _named(module: str, name: str, base: type, **attributes: Any) -> Callable[..., Any]:
    """A class that the unpickler takes for the one of this name."""
    return type(name, (base,), {'__module__': module, '__qualname__': name, **attributes})


_ALLOWED = [_named(module, name, StandIn) for module, names in _IGNORED.items() for name in names]
_ALLOWED += [
    _named(module, name, object, __new__=_plain_dictionary)
    for module, names in _DICTIONARIES.items()
    for name in names
]


def stand_ins() -> AbstractContextManager:
    """Within it `torch.load(weights_only=True)` takes these classes for the real ones."""
    return torch.serialization.safe_globals(_ALLOWED)  # type: ignore[arg-type]
