"""Asking this machine what it is.

Nothing of PyTorch or OpenCV is imported before: where they cannot be, that is what is found.
"""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from psa_pose.engine.check.machine import RIVALS, Machine
from psa_pose.errors import ConfigError

_IMPORTS = ('torch', 'cv2', 'pycocotools.mask', 'faster_coco_eval', 'lightning', 'torchvision')


def look(folder: Path) -> Machine:
    """Ask this machine.

    Args:
        folder: where runs are written.
    """
    broken = {name: why for name in _IMPORTS if (why := _failure(name))}
    found: dict[str, object] = {}
    if 'torch' not in broken:
        import torch

        found |= {
            'cuda_build': torch.version.cuda,
            'nccl': torch.distributed.is_available() and torch.distributed.is_nccl_available(),
            'gpus': _gpus(),
        }
    return Machine(
        python='.'.join(map(str, sys.version_info[:3])),
        packages=_packages(),
        broken=broken,
        formats=() if 'cv2' in broken else _formats(),
        driver=_driver(),
        compiler=_compiler(),
        cores=_cores(),
        memory=_memory(),
        shared=_shared(),
        open_files=_open_files(),
        disk=shutil.disk_usage(_existing(folder)).free,
        **found,  # type: ignore[arg-type]
    )


def _failure(module: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as error:  # a wrong build may raise anything
        return f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'
    return ''


def _packages() -> dict[str, str]:
    names = {name for pair in RIVALS for name in pair} | {'torch', 'torchvision', 'numpy'}
    found = {}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _formats() -> tuple[str, ...]:
    """Of a picture that OpenCV writes and reads back."""
    import cv2
    import numpy as np

    picture, found = np.zeros((8, 8, 3), np.uint8), []
    for ending in ('.jpg', '.png', '.webp'):
        try:
            data = cv2.imencode(ending, picture)[1]
            if cv2.imdecode(data, cv2.IMREAD_COLOR) is not None:
                found.append(ending)
        except cv2.error:
            continue
    return tuple(found)


def _gpus() -> tuple[tuple[str, int, bool], ...]:
    from psa_pose.engine.environment import gpus

    try:
        return tuple(map(_gpu, range(gpus())))
    except ConfigError:  # `check_machine` says it, beside what the driver says
        return ()


def _gpu(index: int) -> tuple[str, int, bool]:
    import torch

    about = torch.cuda.get_device_properties(index)
    with torch.cuda.device(index):
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return about.name, about.total_memory, bfloat16


def _driver() -> str:
    fields = '--query-gpu=name,driver_version'
    try:
        done = subprocess.run(
            ['nvidia-smi', fields, '--format=csv,noheader'],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return '; '.join(done.stdout.strip().splitlines()) if done.returncode == 0 else ''


def _compiler() -> bool:
    compiler = os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')
    return bool(compiler) and Path(sysconfig.get_path('include'), 'Python.h').is_file()


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    try:  # a container's share
        quota, period = Path('/sys/fs/cgroup/cpu.max').read_text().split()
        return max(min(cores or 1, round(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # 'max'
        return cores or 1


def _memory() -> int:
    try:
        total = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, OSError, ValueError):
        return 0
    try:
        return min(total, int(Path('/sys/fs/cgroup/memory.max').read_text()))
    except (OSError, ValueError):
        return total


def _shared() -> tuple[int, int]:
    try:
        size = os.statvfs('/dev/shm')
    except (AttributeError, OSError):
        return 0, 0
    return size.f_blocks * size.f_frsize, size.f_bavail * size.f_frsize


def _open_files() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
