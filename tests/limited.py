"""Runs Python in a process that may not take more memory."""

import subprocess
import sys
import textwrap

from tests.conftest import ROOT

_LIMIT = """
import resource
{setup}
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {limit}, used + {limit}))
try:
    {code}
except Exception as error:
    print(type(error).__name__, error)
"""


def outcome(setup: str, code: str, limit_mb: int) -> str:
    """The error that an expression ends with, or '', where `limit_mb` are all it may add."""
    program = _LIMIT.format(setup=textwrap.dedent(setup), code=code, limit=limit_mb << 20)
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
