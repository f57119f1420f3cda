"""Where and with what a run was made."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import psa_pose
from psa_pose.errors import ConfigError

_PACKAGES = (
    'torch',
    'lightning',
    'numpy',
    'opencv-python',
    'opencv-python-headless',
    'faster-coco-eval',
    'onedl-mmengine',
    'mmengine',
)


def environment() -> dict[str, Any]:
    """Plain values for JSON: start, command, machine, versions."""
    names = []
    with suppress(ConfigError):  # a run on the CPU, beside a GPU that cannot be used
        names = [torch.cuda.get_device_name(i) for i in range(gpus())]
    return {
        'started': now(),
        'command': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        'folder': os.getcwd(),
        'host': socket.gethostname(),
        'system': platform.platform(),
        'cpu': f'{_cpu_name()}, {cores()} cores',
        'gpus': names,
        'versions': {
            'psa-pose': psa_pose.__version__,
            'commit': commit(),
            'python': platform.python_version(),
            **{name: _version(name) for name in _PACKAGES if _version(name)},
            'cuda': torch.version.cuda if names else None,
        },
    }


def now() -> str:
    """Date, time and time zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec='seconds')


def commit() -> str | None:
    """The checkout's commit, `-dirty` where files differ; None of a wheel."""
    root = Path(psa_pose.__file__).parent.parent
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--exclude', '*']
    if not (root / '.git').exists():
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Of this process: what a scheduler gave, not what the machine has."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> int:
    """How many of CUDA's GPUs PyTorch can use.

    Raises:
        ConfigError: there are some, and it cannot: says why. As Lightning sets PyTorch up, it is
            the driver's library that counts them, whatever PyTorch was built for.
    """
    if not torch.cuda.is_available():
        return 0
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition('\n')[0]
        raise ConfigError(
            f'PyTorch {torch.__version__} cannot use the GPU that is here: {why} (psa-pose check '
            'says more; CUDA_VISIBLE_DEVICES= in front of a command has it run on the CPU)'
        ) from None
    return torch.cuda.device_count()


def _cpu_name() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
