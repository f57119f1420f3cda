"""PSA's Triton kernels: their logic on a CPU, their machine code where no GPU is, both on a GPU.

Each part runs in a process of its own: whether Triton interprets or compiles is settled when it is
imported, and any test may have imported it.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec('triton') is None, reason='Triton is not installed'),
]

recent = find_spec('triton') and tuple(map(int, version('triton').split('.')[:2])) >= (3, 9)
interpreted = pytest.mark.skipif(
    not recent, reason='the interpreter before Triton 3.9 may not work with NumPy 2.4'
)


def run(*command: object, **environment: str) -> None:
    """Fail with all that the process said."""
    settled = ('TRITON_INTERPRET', 'PSA_POSE_TRITON', 'PYTEST_ADDOPTS')
    inherited = {k: v for k, v in os.environ.items() if k not in settled}
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=HERE.parents[2],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    print(result.stdout)
    if result.returncode:
        pytest.fail(f'{result.stdout}\n{result.stderr}', pytrace=False)


def pytest_in_a_process(*arguments: object, **environment: str) -> None:
    run('-m', 'pytest', '-p', 'no:xdist', '-p', 'no:cacheprovider', *arguments, **environment)


@interpreted
def test_through_the_interpreter():
    pytest_in_a_process(HERE / 'kernel_checks.py', TRITON_INTERPRET='1')


@interpreted
def test_operators_through_the_interpreter():
    pytest_in_a_process(HERE / 'operator_checks.py', TRITON_INTERPRET='1')


@interpreted
def test_all_of_psa_through_the_interpreter():
    """What PSA promises, from extremes in float16 to second derivatives, with kernels in it."""
    no_kernels = 'compiles or exports or do_not_fit or official or equals or gradients_and_their'
    pytest_in_a_process(HERE / 'test_psa.py', '-k', f'not ({no_kernels})', TRITON_INTERPRET='1')


def test_compile_for_a_gpu_without_one(tmp_path):
    """Types, shapes and registers, of which the interpreter knows nothing."""
    run(HERE / 'compile_kernels.py', '48x48x36', TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_the_gpu():
    pytest_in_a_process(HERE / 'kernel_checks.py')
    pytest_in_a_process(HERE / 'operator_checks.py')
