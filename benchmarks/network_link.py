"""Network namespaces of this machine as nodes of a cluster, joined by links of a chosen speed.

    with nodes(2, '1gbit') as names: subprocess.run(['ip', 'netns', 'exec', names[0], ...])

Each node has an interface `eth0`, 10.77.0.1 onwards, that sends no faster than the link (`tc`'s
token bucket); a bridge in a namespace of its own is the switch. Nothing outside the namespaces is
changed, and all of it leaves with the block. Needs root, `ip` and `tc`.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

BURST = (
    1 << 17
)  # bytes sent at once; two of the largest packets, as small as a timer can keep up with


def address(node: int) -> str:
    return f'10.77.0.{node + 1}'


@contextmanager
def nodes(count: int, rate: str) -> Iterator[list[str]]:
    """Names of namespaces.

    Args:
        count: of them.
        rate: of each node's link in `tc`'s words: '1gbit', '200mbit'.
    """
    names = [f'scaling{os.getpid()}n{i}' for i in range(count)]
    switch = f'scaling{os.getpid()}switch'
    try:
        for name in (switch, *names):
            _run('ip', 'netns', 'add', name)
        _run('ip', '-n', switch, 'link', 'add', 'switch', 'type', 'bridge')
        _run('ip', '-n', switch, 'link', 'set', 'switch', 'up')
        for i, name in enumerate(names):
            port = f'port{i}'
            veth = ('eth0', 'type', 'veth', 'peer', 'name', port, 'netns', switch)
            _run('ip', '-n', name, 'link', 'add', *veth)
            _run('ip', '-n', switch, 'link', 'set', port, 'master', 'switch', 'up')
            _run('ip', '-n', name, 'address', 'add', f'{address(i)}/24', 'dev', 'eth0')
            for device in ('lo', 'eth0'):
                _run('ip', '-n', name, 'link', 'set', device, 'up')
            bucket = ('tbf', 'rate', rate, 'burst', str(BURST), 'latency', '50ms')
            _run('tc', '-n', name, 'qdisc', 'add', 'dev', 'eth0', 'root', *bucket)
        yield names
    finally:
        for name in (*names, switch):  # what is in them leaves with them
            subprocess.run(['ip', 'netns', 'delete', name], stderr=subprocess.DEVNULL)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'--link: {" ".join(command)}: {done.stderr.strip()}')
