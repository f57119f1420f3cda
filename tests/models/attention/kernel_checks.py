"""PSA's Triton kernels against its spelled-out form in float64.

`test_polarize_triton.py` runs this file in a process of its own: through Triton's interpreter,
which has to be chosen before Triton is imported, and on a GPU where there is one.
"""

import copy

import numpy as np
import pytest
import torch
from spelled_out import spelled_out
from torch import Tensor, nn

from psa_pose.models.attention import PSA, polarize_triton

DEVICE = 'cpu' if polarize_triton.INTERPRETED else 'cuda'
pytestmark = pytest.mark.filterwarnings('ignore:overflow encountered in exp:RuntimeWarning')

# B x C x H x W: odd maps, channels that are no power of 2, one image, one pixel
SHAPES = [(3, 18, 5, 3), (1, 36, 7, 5), (2, 48, 6, 4), (3, 96, 1, 1), (1, 384, 3, 3), (2, 2, 3, 2)]
if DEVICE == 'cuda':  # the models' own
    SHAPES += [
        (32, 32, 64, 48),
        (8, 48, 96, 72),
        (32, 64, 64, 48),
        (32, 96, 48, 36),
        (32, 256, 24, 18),
        (32, 384, 12, 9),
        (32, 512, 8, 6),
        (600, 32, 8, 6),
    ]
HALF = [((3, 36, 9, 7), form) for form in (torch.contiguous_format, torch.channels_last)]
if DEVICE == 'cuda':  # as W32 trains, and what `gpu_check.sh` times next: compiled here, by many
    HALF += [((64, 32 << i, 64 >> i, 48 >> i), torch.channels_last) for i in range(4)]
layouts = pytest.mark.parametrize('layout', ['parallel', 'sequential'])
formats = pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc']
)
half_dtypes = pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])


def build(channels: int, layout: str, **options: bool) -> PSA:
    """A PSA whose every parameter matters."""
    torch.manual_seed(channels)
    psa = PSA(channels, layout, **options)
    nn.init.normal_(psa.norm.weight, mean=0.5)
    nn.init.normal_(psa.norm.bias, mean=0.5)
    return psa.to(DEVICE)


def maps(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    """x and dy; x has an offset and channels of its own size, as behind a ReLU."""
    x, dy = torch.randn(2, *shape, device=DEVICE)
    x = (x + 0.5).relu() * torch.rand(1, shape[1], 1, 1, device=DEVICE) * 3
    return [t.to(dtype).contiguous(memory_format=memory_format) for t in (x, dy)]


def value_and_gradients(function, psa: PSA, x: Tensor, dy: Tensor) -> list[Tensor]:
    """y, dx and the parameters' gradients."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *psa.parameters()], dy)]


def expected_of(psa: PSA, x: Tensor, dy: Tensor) -> list[Tensor]:
    psa = copy.deepcopy(psa).double()
    return value_and_gradients(lambda x: spelled_out(psa, x), psa, x.double(), dy.double())


def errors(actual: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Relative, but for gradients that are zero or as good as that (Wq's, of one pixel)."""
    assert all(t.isfinite().all() for t in actual)
    pairs = zip(actual, expected, strict=True)
    return [float((a - b).norm() / b.norm().clamp_min(1)) for a, b in pairs]


@pytest.fixture(autouse=True)
def rounds_to_nearest(monkeypatch):
    """As GPUs do: Triton 3.9's interpreter cuts bfloat16 off."""
    if not polarize_triton.INTERPRETED:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def nearest(values, source, target, mode):
        if (source, target) != (tl.float32, tl.bfloat16):
            return convert(values, source, target, mode)
        rounded = torch.from_numpy(np.ascontiguousarray(values)).bfloat16()
        return rounded.view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(interpreter, '_convert_float', nearest)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several tiles for each program, and several programs for each image, of small maps too."""
    monkeypatch.setattr(polarize_triton, 'FORWARD_VALUES', 1)
    monkeypatch.setattr(polarize_triton, 'BACKWARD_VALUES', 1)
    monkeypatch.setattr(polarize_triton, 'PROGRAMS', 5)


@layouts
@formats
@pytest.mark.parametrize('shape', SHAPES, ids=lambda shape: 'x'.join(map(str, shape)))
def test_equals_the_spelled_out_form(shape, memory_format, layout, monkeypatch):
    psa = build(shape[1], layout)
    x, dy = maps(shape, torch.float32, memory_format)
    assert polarize_triton.fits(x)
    actual = value_and_gradients(psa, psa, x, dy)
    assert actual[0].stride() == actual[1].stride() == x.stride()
    for kernels, plain in beside_plain(monkeypatch, psa, x, dy):
        assert kernels < 4 * plain + 1e-5


@layouts
@formats
@pytest.mark.parametrize('shape', [(1, 18, 13, 11), (2, 48, 9, 8)])
def test_sums_in_many_parts(shape, memory_format, layout, small_blocks):
    last = memory_format == torch.channels_last
    blocks = polarize_triton.cut(shape[0], shape[1], shape[2] * shape[3], last, values=1)
    assert blocks.splits > 1
    assert blocks.stages > 1  # which says that a program has several tiles
    psa = build(shape[1], layout)
    x, dy = maps(shape, torch.float32, memory_format)
    assert max(errors(value_and_gradients(psa, psa, x, dy), expected_of(psa, x, dy))) < 1e-5


def beside_plain(
    monkeypatch: pytest.MonkeyPatch, psa: PSA, x: Tensor, dy: Tensor
) -> list[tuple[float, float]]:
    """Errors of the kernels and of plain PyTorch."""
    expected, found = expected_of(psa, x, dy), []
    for enabled in (True, False):
        monkeypatch.setattr(polarize_triton, 'ENABLED', enabled)
        actual = value_and_gradients(psa, psa, x, dy)
        assert [t.dtype for t in actual[:2]] == [x.dtype] * 2
        assert [t.dtype for t in actual[2:]] == [p.dtype for p in psa.parameters()]
        found.append(errors(actual, expected))
    return list(zip(*found, strict=True))


@layouts
@half_dtypes
@pytest.mark.parametrize('case', HALF, ids=lambda case: f'{case[0]}-{case[1]}')
def test_half_precision_is_no_worse_than_plain(layout, case, dtype, monkeypatch):
    shape, memory_format = case
    psa = build(shape[1], layout)
    x, dy = maps(shape, dtype, memory_format)
    for module in (psa, copy.deepcopy(psa).to(dtype)):  # as under autocast, and all of it
        for kernels, plain in beside_plain(monkeypatch, module, x, dy):
            assert kernels < 1.02 * plain + 1e-6


@layouts
@half_dtypes
def test_identity_init_is_exact(layout, dtype):
    x = torch.randn(2, 18, 5, 3, device=DEVICE).to(dtype)
    assert torch.equal(PSA(18, layout, identity_init=True).to(DEVICE)(x), x)


@layouts
@pytest.mark.parametrize('size', [300.0, -300.0])
def test_logits_far_from_zero(layout, size, monkeypatch):
    """The softmaxes stay finite, and what lies beyond the last pixel and channel adds nothing."""
    psa = build(18, layout)
    x, dy = maps((2, 18, 5, 3), torch.float32, torch.channels_last)
    for kernels, plain in beside_plain(monkeypatch, psa, size * x, dy):
        assert kernels < 4 * plain + 1e-5  # their gradients are differences of large numbers


@layouts
def test_gradient_in_another_format(layout):
    """A sum() hands back an expanded scalar; a view or a convolution, another format than x's."""
    psa = build(18, layout)
    x, dy = maps((2, 18, 5, 3), torch.float32, torch.channels_last)
    for gradient in (dy.contiguous(), torch.ones(1, 1, 1, 1, device=DEVICE).expand_as(x)):
        actual = value_and_gradients(psa, psa, x, gradient)
        assert max(errors(actual, expected_of(psa, x, gradient))) < 1e-5


def test_weights_that_are_not_contiguous():
    psa = build(18, 'parallel')
    weight = psa.conv_up.weight
    weight.data = weight.data.transpose(0, 1).contiguous().transpose(0, 1)
    assert not weight.is_contiguous()
    x, dy = maps((2, 18, 5, 3), torch.float32, torch.contiguous_format)
    assert max(errors(value_and_gradients(psa, psa, x, dy), expected_of(psa, x, dy))) < 1e-5


def test_what_goes_to_plain_pytorch(monkeypatch):
    x = torch.randn(2, 18, 5, 4, device=DEVICE)
    assert polarize_triton.fits(x)
    assert not polarize_triton.fits(x.double())
    assert not polarize_triton.fits(x[:, :, ::2])
    assert not polarize_triton.fits(x[:0])
    assert not polarize_triton.fits(torch.randn(1, 514, 1, 1, device=DEVICE))
    monkeypatch.setattr(polarize_triton, 'ENABLED', False)
    assert not polarize_triton.fits(x)


@layouts
@pytest.mark.skipif(DEVICE == 'cpu', reason='CUDA graphs need a GPU')
def test_in_a_cuda_graph(layout):
    psa = build(32, layout)
    x, dy = maps((4, 32, 16, 12), torch.float32, torch.channels_last)
    value_and_gradients(psa, psa, x, dy)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        actual = value_and_gradients(psa, psa, x, dy)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert max(errors(actual, expected_of(psa, x, dy))) < 1e-5
