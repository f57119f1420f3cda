"""A GPU on a machine where Triton cannot build what it launches kernels with."""

from types import SimpleNamespace

import pytest
import torch

from psa_pose.models.attention import polarize_triton

pytest.importorskip('triton')


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch):
    monkeypatch.setattr(polarize_triton, '_capability', lambda device: (9, 0))
    polarize_triton._compiles.cache_clear()
    yield
    polarize_triton._compiles.cache_clear()


def test_without_a_compiler_plain_pytorch_takes_over_and_says_so_once(monkeypatch, capsys):
    class Driver:
        @property
        def active(self):
            raise RuntimeError('Failed to find C compiler. Please specify\nmore')

    monkeypatch.setattr('triton.runtime.driver', Driver())
    assert [polarize_triton._supported(torch.device('cuda', i)) for i in (0, 1)] == [False, False]
    said = capsys.readouterr().err
    assert said.count('warning: PSA runs in plain PyTorch') == 1
    assert '(Failed to find C compiler. Please specify)' in said and 'apt install gcc' in said


def test_with_one_the_kernels_are_taken(monkeypatch, capsys):
    here = SimpleNamespace(active=SimpleNamespace(get_current_device=lambda: 0))
    monkeypatch.setattr('triton.runtime.driver', here)
    assert polarize_triton._supported(torch.device('cuda'))
    assert not capsys.readouterr().err
