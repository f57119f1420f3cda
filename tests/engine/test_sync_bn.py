"""`sync_bn='torch'` on a CPU: what one process computes of the whole batch, on real ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from psa_pose.engine.sync_bn import CPUSyncBatchNorm, is_synchronised, sync_batch_norms
from psa_pose.errors import ConfigError
from tests.engine.together import on_ranks


def norm(**options: Any) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(5, **options)
    with torch.no_grad():
        if layer.affine:
            layer.weight.copy_(torch.linspace(0.5, 2, 5))
            layer.bias.copy_(torch.linspace(-1, 1, 5))
    return layer


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Values far from zero, where sums of squares lose digits, and a gradient from above."""
    torch.manual_seed(0)
    return 20 + torch.randn(size, 5, 4, 3), torch.randn(size, 5, 4, 3)


def trained(layer: nn.Module, x: Tensor, above: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Two steps in training, then one output of an evaluation."""
    x = x.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    for _ in range(2):
        y = layer(x)
    y.backward(above.to(dtype))
    assert x.grad is not None
    found = {'y': y.detach(), 'x.grad': x.grad, **layer.state_dict()}
    found |= {f'{name}.grad': p.grad for name, p in layer.named_parameters() if p.grad is not None}
    layer.eval()
    return {**found, 'evaluated': layer(x).detach()}


def _rank(rank: int, sizes: tuple[int, ...], options: dict[str, Any], dtype: torch.dtype) -> Any:
    model = nn.Sequential(norm(**options))
    sync_batch_norms(model, Config({'sync_bn': 'torch'}), len(sizes), 'cpu')
    assert is_synchronised(model[0])  # type: ignore[arg-type]
    x, above = (t.split(sizes)[rank] for t in batch(sum(sizes)))
    return trained(model[0], x, above, dtype)


@pytest.mark.parametrize(
    ('sizes', 'options'),
    [((3, 1), {}), ((1, 2, 4), {}), ((3, 1), {'momentum': None}), ((3, 1), {'affine': False})],
)
def test_the_numbers_of_one_process(
    tmp_path: Path, sizes: tuple[int, ...], options: dict[str, Any]
) -> None:
    shares = on_ranks(len(sizes), tmp_path, _rank, sizes, options, torch.float32)
    # In float64: the reference's own rounding is not at issue.
    expected = trained(norm(**options).double(), *batch(sum(sizes)), torch.float64)
    for name, value in expected.items():
        if name in ('y', 'x.grad', 'evaluated'):
            found = torch.cat([share[name] for share in shares])
        elif name.endswith('.grad'):  # of parameters: DDP sums them
            found = torch.stack([share[name] for share in shares]).sum(0)
        else:
            found = shares[0][name]
            assert all(torch.equal(share[name], found) for share in shares), name
        torch.testing.assert_close(found.to(value.dtype), value, rtol=2e-5, atol=2e-5, msg=name)


def test_under_bfloat16_statistics_are_float32(tmp_path: Path) -> None:
    shares = on_ranks(2, tmp_path, _rank, (3, 1), {}, torch.bfloat16)
    x, above = (t.bfloat16().double() for t in batch(4))
    expected = trained(norm().double(), x, above, torch.float64)
    assert shares[0]['y'].dtype == torch.bfloat16
    y = torch.cat([share['y'] for share in shares]).double()
    torch.testing.assert_close(y, expected['y'], rtol=2**-7, atol=2**-7)
    statistics = shares[0]['running_var'].double()
    torch.testing.assert_close(statistics, expected['running_var'], rtol=1e-5, atol=0)


def test_names_and_values_of_a_checkpoint_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), norm(), nn.Sequential(norm()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sync_batch_norms(model, Config({'sync_bn': 'torch'}), 2, 'cpu')
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert isinstance(model[1], CPUSyncBatchNorm)
    assert isinstance(model[1], nn.modules.batchnorm._BatchNorm)  # what guard and freeze look for


def test_a_gpu_gets_pytorchs_own() -> None:
    model = nn.Sequential(norm())
    sync_batch_norms(model, Config({'sync_bn': 'torch'}), 2, 'cuda')
    assert type(model[0]) is nn.SyncBatchNorm and is_synchronised(model[0])


@pytest.mark.parametrize(('value', 'ranks'), [(None, 2), ('torch', 1)])
def test_nothing_changes_without_it_or_for_one_process(value: Any, ranks: int) -> None:
    model = nn.Sequential(norm())
    sync_batch_norms(model, Config({'sync_bn': value}), ranks, 'cpu')
    assert type(model[0]) is nn.BatchNorm2d


@pytest.mark.parametrize('value', ['mmcv', True, 'Torch'])
def test_another_word_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"sync_bn must be 'torch' or None, got {value!r}"):
        sync_batch_norms(nn.Sequential(norm()), Config({'sync_bn': value}), 1, 'cpu')
