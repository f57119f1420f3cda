"""The C library's memory, set for large tensors on a CPU."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_large_blocks() -> bool:
    """Have freed blocks of up to 1 GiB used again, instead of fresh ones from the system.

    Otherwise glibc asks Linux for every block from 32 MiB on, and each of its pages is faulted in
    and cleared anew: half the time of encoding UDP with offsets (40 MB), 3 to 7 % of a training
    step of R50 or HRNet-W32. What was used once stays with the process.

    Returns:
        Whether there is something to set: other C libraries have no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return bool(mallopt and mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, 1 << 30))
