"""PSA against its spelled-out form, and in the settings that people run it in."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spelled_out import spelled_out
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from psa_pose.models.attention import PSA
from psa_pose.registry import MODELS

KINDS = [
    ('parallel', 'paper'),
    ('sequential', 'paper'),
    ('parallel', 'official_p'),
    ('sequential', 'official_s'),
]
kinds = pytest.mark.parametrize(('layout', 'variant'), KINDS)
paper_layouts = pytest.mark.parametrize('layout', ['parallel', 'sequential'])


def build(channels: int, layout: str, variant: str, **options: bool) -> PSA:
    """A PSA whose every parameter matters: LayerNorms and biases do not start neutral."""
    psa = PSA(channels, layout, variant, **options)
    for parameter in psa.parameters():
        if parameter.dim() != 4:
            nn.init.normal_(parameter, mean=0.5)
    return psa


def value_and_gradients(function, psa: PSA, x: Tensor, dy: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *psa.parameters()], dy)]


def assert_all_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False)


# --- what it computes


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    batch=st.integers(0, 3),
    groups=st.integers(1, 4),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    identity=st.booleans(),
    handwritten=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_the_spelled_out_form(
    kind, batch, groups, height, width, identity, handwritten, seed
):
    torch.manual_seed(seed)
    _, variant = kind
    channels = groups * (8 if variant == 'official_s' else 2)
    psa = build(channels, *kind, identity_init=identity and variant == 'paper').double()
    psa.handwritten_backward = handwritten
    x = torch.randn(batch, channels, height, width, dtype=torch.double)
    dy = torch.randn_like(x)
    actual = value_and_gradients(psa, psa, x, dy)
    expected = value_and_gradients(lambda x: spelled_out(psa, x), psa, x, dy)
    assert_all_close(actual, expected, 1e-10)
    with torch.no_grad():
        torch.testing.assert_close(psa(x), expected[0], rtol=1e-10, atol=1e-10)


@kinds
def test_gradients_and_their_gradients(layout, variant):
    torch.manual_seed(0)
    psa = build(8, layout, variant).double()
    names = [name for name, _ in psa.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(psa, dict(zip(names, parameters, strict=True)), x)

    x = torch.randn(2, 8, 2, 3, dtype=torch.double, requires_grad=True)
    inputs = (x, *(p.detach().clone().requires_grad_() for p in psa.parameters()))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-4)


@paper_layouts
def test_frozen_parameters_and_second_derivatives(layout):
    psa = build(4, layout, 'paper').double().requires_grad_(False)
    psa.conv_up.weight.requires_grad_()
    x = torch.randn(2, 4, 3, 2, dtype=torch.double, requires_grad=True)
    (dx,) = torch.autograd.grad(psa(x).sum(), x, create_graph=True)
    dx.square().sum().backward()
    assert psa.conv_up.weight.grad.abs().sum() > 0
    assert psa.conv_q_right.weight.grad is None


@paper_layouts
def test_keeps_x_and_vectors_for_the_backward(layout):
    """No stored C/2 x N tensor: that is what the hand-written backward is for."""
    psa, saved = PSA(32, layout), []
    x = torch.randn(2, 32, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        psa(x)
    weights = {p.data_ptr() for p in psa.parameters()}
    others = [t for t in saved if t.data_ptr() not in {x.data_ptr(), *weights}]
    assert sum(t.numel() for t in others) < x.numel() / 8


@paper_layouts
def test_two_backwards_and_module_copies(layout):
    psa = PSA(8, layout)
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    y = psa(x).sum()
    y.backward(retain_graph=True)
    first = x.grad.clone()
    y.backward()
    torch.testing.assert_close(x.grad, 2 * first)
    torch.testing.assert_close(copy.deepcopy(psa)(x), psa(x))


@pytest.mark.parametrize('variant', ['paper', 'official_p'])
def test_gates_of_the_whole_pixels(variant):
    """The gates do not look at where a pixel is: permuted pixels give the permuted output."""
    psa, x = PSA(8, variant=variant).double(), torch.randn(2, 8, 3, 4).double()
    order = torch.randperm(12)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    expected = psa(x).flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(psa(shuffled), expected)


# --- how it starts


@paper_layouts
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_identity_init_is_exact_and_learns(layout, dtype):
    psa = PSA(16, layout, identity_init=True).to(dtype)
    x = torch.randn(2, 16, 5, 3, dtype=dtype)
    assert torch.equal(psa(x), x)

    psa = psa.float()
    optimizer = torch.optim.SGD(psa.parameters(), lr=0.1)
    target = torch.randn(2, 16, 5, 3)
    for _ in range(3):
        optimizer.zero_grad()
        (psa(x.float()) - target).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in psa.parameters())


def test_identity_init_survives_a_checkpoint():
    trained = build(8, 'sequential', 'paper', identity_init=True)
    loaded = PSA(8, 'sequential', identity_init=True)
    loaded.load_state_dict(trained.state_dict())
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(loaded(x), trained(x))


def test_parameter_names_are_the_authors():
    common = [f'conv_{n}.weight' for n in ('q_right', 'v_right', 'q_left', 'v_left')]
    assert set(PSA(8, variant='official_p').state_dict()) == {*common, 'conv_up.weight'}
    assert set(PSA(8).state_dict()) == {*common, 'conv_up.weight', 'norm.weight', 'norm.bias'}
    official_s = PSA(16, variant='official_s').state_dict()
    conv_up = {f'conv_up.{i}.{kind}' for i in (0, 1, 3) for kind in ('weight', 'bias')}
    assert set(official_s) == {*common, *conv_up}
    assert official_s['conv_up.0.weight'].shape == (2, 8, 1, 1)
    assert official_s['conv_up.1.weight'].shape == (2, 1, 1)
    assert official_s['conv_up.3.weight'].shape == (16, 2, 1, 1)


def test_registered():
    psa = MODELS.build(dict(type='PSA', channels=8, layout='sequential'))
    assert isinstance(psa, PSA)
    assert psa.layout == 'sequential'


def test_official_layouts_are_implied():
    assert PSA(8, variant='official_p').layout == 'parallel'
    assert PSA(8, variant='official_s').layout == 'sequential'
    assert PSA(8).layout == 'parallel'


# --- where it runs


@kinds
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(layout, variant, dtype):
    torch.manual_seed(0)
    psa = build(16, layout, variant)
    autocast = torch.autocast('cpu', dtype)
    x, dy = torch.randn(2, 2, 16, 6, 4).to(dtype)
    expected = value_and_gradients(psa, psa, x.float(), dy.float())
    tolerance = 8 * torch.finfo(dtype).eps
    actual = value_and_gradients(autocast(psa.forward), psa, x, dy)
    full = value_and_gradients(autocast(psa.forward), psa, x.float(), dy.float())
    assert actual[0].dtype == actual[1].dtype == dtype
    assert_all_close(actual[:2], expected[:2], tolerance)
    for a, b in zip(actual[2:], expected[2:], strict=True):  # sums of many rounded products
        assert (a - b).norm() <= 2 * tolerance * b.norm() + 1e-4
    assert full[0].dtype == torch.float32  # autocast rounds nothing here
    assert_all_close(full, expected, 1e-6)

    with autocast:  # a backward in here is rounded by autograd, not by hand
        within = value_and_gradients(psa, psa, x, dy)
    if variant == 'paper':
        assert_all_close(within, actual, 0.0)

    psa = psa.to(dtype)
    assert psa(x).dtype == dtype
    torch.testing.assert_close(psa(x).float(), expected[0], rtol=tolerance, atol=tolerance)


@kinds
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('fill', ['constant', 'signs', 'checkerboard', 'one hot', 'zero'])
def test_extremes_stay_finite_wherever_the_exact_value_fits(layout, variant, dtype, fill):
    torch.manual_seed(0)
    psa = build(16, layout, variant)
    # in parallel the gates add up to at most 2, and the exact output must fit as well
    peak = 3e4 if layout == 'parallel' else 6e4
    x = {
        'constant': torch.full((2, 16, 8, 8), peak),
        'signs': peak * torch.randn(2, 16, 8, 8).sign(),
        'checkerboard': peak * (1 - 2.0 * (torch.arange(8)[:, None] + torch.arange(8)) % 2),
        'one hot': peak * nn.functional.one_hot(torch.tensor([3, 60]), 64).view(2, 1, 8, 8),
        'zero': torch.zeros(2, 16, 8, 8),
    }[fill]
    x = x.expand(2, 16, 8, 8).to(dtype)
    dy = torch.full_like(x, 4.0)
    results = value_and_gradients(torch.autocast('cpu', dtype)(psa.forward), psa, x, dy)
    exact = value_and_gradients(psa.double(), psa, x.double(), dy.double())
    for result, value in zip(results, exact, strict=True):
        fits = value.abs() < 0.99 * torch.finfo(result.dtype).max
        assert result[fits].isfinite().all()
        if variant != 'paper':  # gradients that autograd computes in the dtype of x
            break
    assert results[0].isfinite().all()


@kinds
def test_channels_last(layout, variant):
    psa = build(16, layout, variant)
    x, dy = torch.randn(2, 2, 16, 5, 3)
    expected = value_and_gradients(psa, psa, x, dy)
    x = x.to(memory_format=torch.channels_last)
    for gradient in (dy, dy.to(memory_format=torch.channels_last)):
        actual = value_and_gradients(psa, psa, x, gradient)
        assert actual[0].is_contiguous(memory_format=torch.channels_last)
        assert variant != 'paper' or actual[1].is_contiguous(memory_format=torch.channels_last)
        assert_all_close(actual, expected, 1e-5)


@paper_layouts
def test_any_strides(layout):
    psa = PSA(8, layout)
    x = torch.randn(2, 16, 9, 7)[:, ::2, 1::2, ::3]
    dy = torch.ones(1, 1, 1, 1).expand_as(x)
    expected = value_and_gradients(lambda x: spelled_out(psa, x), psa, x, dy)
    for y in (x, x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert_all_close(value_and_gradients(psa, psa, y, dy), expected, 1e-5)
    sliced = x.detach().requires_grad_()
    assert_all_close(list(torch.autograd.grad(psa(sliced), sliced, dy)), expected[1:2], 1e-5)


@pytest.mark.filterwarnings('ignore')  # torch.jit.trace: deprecated, and still used
@paper_layouts
def test_inference_tracing_checkpointing_and_function_transforms(layout):
    psa, x, dy = PSA(8, layout), torch.randn(2, 8, 3, 4), torch.randn(2, 8, 3, 4)
    expected = value_and_gradients(psa, psa, x, dy)
    with torch.inference_mode():
        torch.testing.assert_close(psa(x), expected[0])
    traced = torch.jit.trace(psa, x)
    torch.testing.assert_close(traced(torch.cat([x, x])), torch.cat([expected[0]] * 2))
    rematerialized = partial(checkpoint, psa, use_reentrant=False)
    assert_all_close(value_and_gradients(rematerialized, psa, x, dy), expected, 1e-6)

    psa.handwritten_backward = False
    dx = torch.func.vjp(psa, x)[1](dy)
    torch.testing.assert_close(dx[0], expected[1])
    each = torch.func.vmap(lambda x: psa(x[None])[0])(x)
    torch.testing.assert_close(each, expected[0])


@kinds
def test_compiles_into_one_graph(layout, variant, monkeypatch):
    """With the 'aot_eager' backend: forward and backward are traced whole, no C++ is built."""
    untraceable = torch.compiler.disable(torch.amp.is_autocast_available)  # as it is in torch 2.11
    monkeypatch.setattr(torch.amp, 'is_autocast_available', untraceable)
    psa = build(8, layout, variant)
    x, dy = torch.randn(2, 2, 8, 4, 3)
    compiled = torch.compile(psa, fullgraph=True, backend='aot_eager')
    expected = value_and_gradients(psa, psa, x, dy)
    assert_all_close(value_and_gradients(compiled, psa, x, dy), expected, 1e-5)
    with torch.autocast('cpu', torch.bfloat16):
        assert compiled(x.bfloat16()).dtype == torch.bfloat16


@kinds
def test_exports_with_dynamic_shapes(layout, variant):
    psa = build(8, layout, variant).eval()
    dims = {0: torch.export.Dim('b'), 2: torch.export.Dim('h'), 3: torch.export.Dim('w')}
    program = torch.export.export(
        psa, (torch.randn(2, 8, 4, 3),), dynamic_shapes=(dims,), strict=False
    )
    for shape in ((1, 8, 1, 1), (3, 8, 7, 2)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), psa(x))


def test_exports_to_onnx():
    """Slow to import, so that one kind stands for all."""
    pytest.importorskip('onnxscript')
    psa, x = PSA(8).eval(), torch.randn(2, 8, 4, 3)
    program = torch.onnx.export(
        psa, (x,), dynamo=True, dynamic_shapes=({0: 'b', 2: 'h', 3: 'w'},), verbose=False
    )
    from onnx.reference import ReferenceEvaluator  # no runtime needed

    x = torch.randn(3, 8, 5, 7)
    (y,) = ReferenceEvaluator(program.model_proto).run(None, {'x': x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), psa(x).detach())


# --- what it refuses


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(channels=7), 'channels=7 .*multiple of 2'),
        (dict(channels=0), 'channels=0'),
        (dict(channels=12, variant='official_s'), 'channels=12 .*multiple of 8'),
        (dict(channels=8, variant='papr'), "unknown variant 'papr'.*'paper'"),
        (dict(channels=8, layout='paralel'), "unknown layout 'paralel'.*did you mean 'parallel'"),
        (dict(channels=8, layout='x'), "'parallel', 'sequential'"),
        (dict(channels=8, layout='sequential', variant='official_p'), 'official_p.* is parallel'),
        (dict(channels=8, layout='parallel', variant='official_s'), 'official_s.* is sequential'),
        (dict(channels=8, variant='official_p', identity_init=True), 'identity_init'),
    ],
)
def test_arguments_that_do_not_fit(arguments, said):
    with pytest.raises(ValueError, match=said):
        PSA(**arguments)


@pytest.mark.parametrize(
    ('shape', 'said'),
    [
        ((2, 4, 3, 3), 'B x 8 x H x W, not 2 x 4 x 3 x 3'),
        ((8, 3, 3), 'not 8 x 3 x 3'),
        ((2, 8, 0, 3), 'pixel.* 2 x 8 x 0 x 3'),
        ((2, 8, 3, 0), 'pixel.* 2 x 8 x 3 x 0'),
    ],
)
def test_inputs_that_do_not_fit(shape, said):
    with pytest.raises(ValueError, match=said):
        PSA(8)(torch.randn(shape))
