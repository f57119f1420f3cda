"""PSA's Triton kernels as operators: what `torch.compile` makes of a network on a GPU.

`test_polarize_triton.py` runs this file as it runs `kernel_checks.py`, which has the kernels' own
checks: here it is whether compilers are told the truth of them, and call them at all.
"""

import copy

import pytest
import torch
from kernel_checks import (
    DEVICE,
    build,
    errors,
    expected_of,
    formats,
    half_dtypes,
    layouts,
    maps,
    value_and_gradients,
)
from torch import nn

from psa_pose.models.attention import PSA, polarize_triton
from psa_pose.models.attention.polarize_ops import polarize_backward_op, polarize_op

pytestmark = pytest.mark.filterwarnings('ignore:overflow encountered in exp:RuntimeWarning')
OPERATORS = ('psa_pose.polarize.default', 'psa_pose.polarize_backward.default')


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@layouts
@formats
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_what_is_said_of_the_operators_is_true(layout, memory_format, dtype, monkeypatch):
    """PyTorch's own checks: schema, fake tensors, autograd, with sizes that are symbols too."""
    # They compare the vectors to the last, and nothing is written to the padding of a row.
    monkeypatch.setattr(polarize_triton, '_floats', lambda x, *shape: x.new_zeros(shape).float())
    psa = build(18, layout)
    x, dy = maps((3, 18, 5, 3), dtype, memory_format)
    last = memory_format == torch.channels_last
    options = (*psa._options(), last)
    weights = list(psa._weights())
    torch.library.opcheck(polarize_op, (x.clone().requires_grad_(), weights, *options))
    weights = [w.detach() for w in weights]
    _, vectors = polarize_op(x, weights, *options)
    torch.library.opcheck(polarize_backward_op, (x, weights, vectors, dy, *options))


class Watched:
    """A compiler that runs graphs as they are, and names the operators in them."""

    def __init__(self) -> None:
        self.graphs: list[list[str]] = []

    def __call__(self, module, inputs):
        self.graphs.append([str(node.target) for node in module.graph.nodes])
        return module

    def compile(self, module: nn.Module, **options):
        from torch._dynamo.backends.common import aot_autograd

        backend = aot_autograd(fw_compiler=self)
        return torch.compile(module, fullgraph=True, backend=backend, dynamic=False)

    @property
    def operators(self) -> list[str]:
        return [name for graph in self.graphs for name in graph if name in OPERATORS]


@layouts
@formats
def test_compiled_networks_call_the_kernels(layout, memory_format):
    """One graph each way, with the very same numbers."""
    psa, watched = build(18, layout), Watched()
    x, dy = maps((3, 18, 5, 3), torch.float32, memory_format)
    eager = value_and_gradients(psa, psa, x, dy)
    compiled = value_and_gradients(watched.compile(psa), psa, x, dy)
    assert watched.operators == [*OPERATORS]
    for one, two in zip(compiled, eager, strict=True):
        assert torch.equal(one, two)
        assert one.stride() == two.stride()


@layouts
@half_dtypes
def test_under_autocast(layout, dtype):
    """Half-precision maps and float32 weights, as in training; the gates are not rounded."""
    psa, watched = build(36, layout), Watched()
    x, dy = maps((3, 36, 9, 7), dtype, torch.channels_last)
    for module in (psa, copy.deepcopy(psa).to(dtype)):
        compiled = watched.compile(module)
        with torch.autocast(DEVICE, dtype):
            eager = value_and_gradients(module, module, x, dy)
            found = value_and_gradients(compiled, module, x, dy)
        assert all(map(torch.equal, found, eager))
        assert [t.dtype for t in found] == [t.dtype for t in eager]
    assert watched.operators == [*OPERATORS] * 2


@layouts
@pytest.mark.parametrize('trains', ['x', 'one weight', 'nothing'])
def test_where_some_stand_still(layout, trains):
    psa, watched = build(18, layout).requires_grad_(False), Watched()
    x, dy = maps((2, 18, 5, 3), torch.float32, torch.channels_last)
    x.requires_grad_(trains == 'x')
    psa.conv_up.weight.requires_grad_(trains == 'one weight')
    results = []
    for function in (psa, watched.compile(psa)):
        y = function(x)
        asked = [t for t in (x, psa.conv_up.weight) if t.requires_grad]
        results.append([y.detach(), *(torch.autograd.grad(y, asked, dy) if asked else ())])
    assert all(map(torch.equal, *results))
    assert watched.operators == [*OPERATORS[: 1 if trains == 'nothing' else 2]]


def test_a_map_that_a_compiler_laid_out_otherwise():
    """The output has the format that was announced, whatever comes."""
    psa = build(18, 'parallel')
    x, dy = maps((2, 18, 5, 3), torch.float32, torch.channels_last)
    arguments = ([w.detach() for w in psa._weights()], *psa._options(), False)
    y, _ = polarize_op(x, *arguments)
    assert y.is_contiguous()
    assert errors([y], expected_of(psa, x, dy)[:1])[0] < 1e-5


def test_what_does_not_fit_is_compiled_as_plain_operations():
    psa, watched = PSA(8).to(DEVICE).double(), Watched()
    x, dy = maps((2, 8, 5, 3), torch.double, torch.channels_last)
    assert not polarize_triton.fits(x)
    value_and_gradients(watched.compile(psa), psa, x, dy)
    assert watched.graphs and not watched.operators


def test_exporters_get_plain_operations():
    psa = PSA(8).to(DEVICE).eval()
    program = torch.export.export(psa, (torch.randn(2, 8, 4, 3, device=DEVICE),), strict=False)
    assert 'psa_pose' not in str(program.graph)


@layouts
@pytest.mark.parametrize('mode', ['default', 'reduce-overhead'])
@pytest.mark.skipif(DEVICE == 'cpu', reason='needs a GPU')
def test_the_inductor(layout, mode):
    """With `reduce-overhead` in a CUDA graph."""
    psa = build(32, layout)
    compiled = torch.compile(psa, fullgraph=True, mode=mode, dynamic=False)
    for _ in range(4):  # warm up, record, replay
        x, dy = maps((4, 32, 16, 12), torch.float32, torch.channels_last)
        actual = [t.clone() for t in value_and_gradients(compiled, psa, x, dy)]
        assert max(errors(actual, expected_of(psa, x, dy))) < 1e-5
