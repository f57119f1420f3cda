"""Large blocks are used again instead of being given back; in a process of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from psa_pose.engine.memory import keep_large_blocks
if sys.argv[1] == 'kept':
    assert keep_large_blocks()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # until the heap has found its size
    torch.ones(10 << 20)
before = faults()
for _ in range(5):
    torch.ones(10 << 20)  # 40 MB
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is glibc')
def test_forty_megabytes_are_faulted_in_once() -> None:
    faults = {}
    for how in ('kept', 'as it is'):
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM, how], capture_output=True, text=True, check=True
        )
        faults[how] = int(done.stdout)
    pages = 5 * (40 << 20) // 4096
    assert faults['kept'] < pages / 20
    assert faults['as it is'] > pages / 20  # else this says nothing
