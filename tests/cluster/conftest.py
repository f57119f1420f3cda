"""Processes and nodes of a test, gone with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.launching import Job
from tests.cluster.nodes import Node, two_nodes


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path / 'logs') as job:
        yield job


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes, `alpha` and `beta`; skips where no namespaces can be made."""
    with two_nodes(tmp_path) as nodes:
        yield nodes
