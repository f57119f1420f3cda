"""Two nodes on one machine: namespaces of the network, host name and mounts, joined by a cable."""

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEWNS, NEWUTS, NEWNET = 0x20000, 0x4000000, 0x40000000  # see unshare(2)
PRIVATE, BIND = 0x44000, 0x1000  # see mount(2)


class Node:
    """A namespace of the network with one address, which its host name stands for.

    Args:
        name: host name.
        address: of its end of the cable.
        hosts: a file as /etc/hosts.
    """

    def __init__(self, name: str, address: str, hosts: Path) -> None:
        self.name, self.address, self.hosts = name, address, hosts
        self.net = f'psa{os.getpid()}{name}'
        self.cable = 'cable0'
        self.other: list[tuple[Path, Path]] = []  # what has other content here: place, content

    def enter(self) -> None:
        """Let the calling process, of one thread, live there, and all that it starts."""
        with open(f'/var/run/netns/{self.net}') as file:
            _call('setns', file.fileno(), NEWNET)
        _call('unshare', NEWNS | NEWUTS)
        socket.sethostname(self.name)
        mount('none', '/', PRIVATE)
        mount(self.hosts, '/etc/hosts', BIND)
        for place, content in self.other:
            mount(content, place, BIND)

    def plug(self, state: str) -> None:
        """'down' pulls the cable out, 'up' puts it back."""
        _ip('-n', self.net, 'link', 'set', self.cable, state)


def mount(what: object, where: object, flags: int) -> None:
    _call('mount', str(what).encode(), str(where).encode(), None, flags, None)


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    """`alpha` and `beta`; skips where no namespaces can be made."""
    hosts = folder / 'hosts'
    hosts.write_text('127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n')
    both = Node('alpha', '10.77.0.1', hosts), Node('beta', '10.77.0.2', hosts)
    a, b = both
    try:
        try:
            for node in both:
                _ip('netns', 'add', node.net)
            _ip(
                'link', 'add', a.cable, 'netns', a.net,
                'type', 'veth', 'peer', 'name', b.cable, 'netns', b.net,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f'no network namespaces here: {getattr(error, "stderr", error)}')
        for node in both:
            _ip('-n', node.net, 'addr', 'add', f'{node.address}/24', 'dev', node.cable)
            _ip('-n', node.net, 'link', 'set', 'lo', 'up')
            node.plug('up')
        yield both
    finally:
        for node in both:
            subprocess.run(['ip', 'netns', 'del', node.net], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True, text=True)


def _call(name: str, *args: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args):
        raise OSError(ctypes.get_errno(), f'{name}: {os.strerror(ctypes.get_errno())}')
