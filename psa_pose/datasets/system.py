"""What Linux says of memory and of processes; elsewhere little is known, and said."""

import os
from multiprocessing.process import BaseProcess
from pathlib import Path

from psa_pose.files import is_device

SHARED_MEMORY = Path('/dev/shm')  # of both of PyTorch's sharing strategies
_STATES = {
    'R': 'computing',
    'S': 'waiting',
    'D': 'waiting for a disk or a network file system',
    'T': 'stopped',
    'Z': 'dead',
}


def shared_memory() -> tuple[int, int]:
    """Bytes in all, and free."""
    try:
        size = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0, 0
    return size.f_blocks * size.f_frsize, size.f_bavail * size.f_frsize


def memory() -> str:
    """The machine's memory and the container's limit, as far as Linux says."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return 'the memory is used up'
    kib = {line.split(':')[0]: int(line.split()[1]) for line in lines}
    total, free = kib['MemTotal'] * 1024, kib.get('MemAvailable', 0) * 1024
    text = f'the machine has {total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free now'
    for path in ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'):
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):  # 'max'
            continue
        if limit < total:
            text += f', and {limit / 1e9:.1f} GB is the limit of this container'
    return text


def doing(worker: BaseProcess) -> str:
    """The state of a process and the files that it alone has open, as far as Linux says."""
    try:
        state = Path(f'/proc/{worker.pid}/stat').read_text().rpartition(') ')[2][0]
        files = _open_files(f'{worker.pid}') - _open_files('self')
    except OSError:
        return 'dead' if not worker.is_alive() else 'alive'
    return ' '.join([_STATES.get(state, state), *(f'with {name} open' for name in sorted(files))])


def _open_files(process: str) -> set[str]:
    names = set()
    for fd in Path(f'/proc/{process}/fd').iterdir():
        try:
            names.add(os.readlink(fd))
        except OSError:  # closed meanwhile
            continue
    names = {name for name in names if name.startswith('/') and not is_device(Path(name))}
    return {name for name in names if not name.endswith(' (deleted)')}  # tensors in shared memory
