"""DensePSA against its definition, and what it keeps in memory."""

import pytest
import torch
from torch import Tensor

from psa_pose.models import DensePSA, NonLocal

kinds = pytest.mark.parametrize(('heads', 'fusion'), [(1, 'sum'), (1, 'gated'), (4, 'sum')])


def spelled_out(block: DensePSA, x: Tensor) -> Tensor:
    """Both matrices of weights written down, C x C and N x N."""
    pixels = x.flatten(2)  # B x C x N
    mean = pixels.mean(2)
    logits = torch.einsum(
        'bi,bj->bij', mean @ block.channel_q.weight.T, mean @ block.channel_k.weight.T
    )
    channel = logits.softmax(2) @ (block.channel_v.weight @ pixels)

    q, k, v = (
        (getattr(block, f'spatial_{name}').weight @ pixels).chunk(block.heads, 1) for name in 'qkv'
    )
    width = x.shape[1] / block.heads
    heads = [v @ (q.mT @ k / width**0.5).softmax(2).mT for q, k, v in zip(q, k, v, strict=True)]
    spatial = torch.cat(heads, 1)
    if block.fusion == 'sum':
        return (channel + spatial).view_as(x)
    g = block.gate.sigmoid()[:, None]
    return (g * channel + (1 - g) * spatial).view_as(x)


def build(channels: int, heads: int, fusion: str) -> DensePSA:
    torch.manual_seed(0)
    block = DensePSA(channels, heads, fusion).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@kinds
@pytest.mark.parametrize('shape', [(2, 8, 5, 6), (1, 16, 1, 1), (3, 4, 7, 2), (0, 4, 3, 3)])
def test_equals_the_spelled_out_form(heads, fusion, shape):
    block, x = build(shape[1], heads, fusion), torch.randn(shape, dtype=torch.double)
    x.requires_grad_()
    dy, inputs = torch.randn_like(x), [x, *block.parameters()]
    actual, expected = block(x), spelled_out(block, x)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(actual, inputs, dy),
        torch.autograd.grad(expected, inputs, dy),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_the_gate_starts_half_open():
    torch.manual_seed(0)
    gated, plain = DensePSA(8, fusion='gated'), DensePSA(8)
    plain.load_state_dict(gated.state_dict(), strict=False)
    x = torch.randn(2, 8, 4, 3)
    torch.testing.assert_close(gated(x), plain(x) / 2)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    'block',
    [DensePSA(8), DensePSA(8, heads=2, fusion='gated'), NonLocal(8)],
    ids=lambda b: str(b)[:20],
)
def test_keeps_no_matrix_of_pixels_by_pixels(block, dtype, channels_last):
    height, width = 32, 24
    x = torch.randn(2, 8, height, width, dtype=dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    saved: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y = block.to(dtype)(x.requires_grad_())
    assert y.requires_grad
    assert max(saved) <= x.numel() < (height * width) ** 2


@kinds
def test_compiles_into_one_graph(heads, fusion):
    """With the 'aot_eager' backend: forward and backward are traced whole, no C++ is built."""
    torch._dynamo.reset()
    block, x = build(8, heads, fusion), torch.randn(2, 8, 4, 3, dtype=torch.double)
    explained = torch._dynamo.explain(block)(x)
    assert explained.graph_break_count == 0, explained.break_reasons
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    inputs = list(block.parameters())
    for a, b in zip(
        (compiled(x), *torch.autograd.grad(compiled(x).square().sum(), inputs)),
        (block(x), *torch.autograd.grad(block(x).square().sum(), inputs)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(channels=8, fusion='gate'), "unknown fusion 'gate': did you mean 'gated'"),
        (dict(channels=8, fusion='x'), "allowed: 'sum', 'gated'"),
        (dict(channels=9, heads=2), 'channels=9, heads=2: heads must divide channels'),
        (dict(channels=8, heads=0), 'heads=0'),
        (dict(channels=0), 'channels=0'),
    ],
)
def test_arguments_that_do_not_fit(arguments, said):
    with pytest.raises(ValueError, match=said):
        DensePSA(**arguments)
