"""Recorded gates are those of the forward pass, and recording changes nothing."""

import pytest
import torch
from torch import Tensor, nn

from psa_pose.models.attention import PSA, SE
from psa_pose.models.attention.gates import Gates, one_a_stage, record_gates

KINDS = [
    ('paper', 'parallel', False),
    ('paper', 'sequential', False),
    ('paper', 'parallel', True),
    ('paper', 'sequential', True),
    ('official_p', None, False),
    ('official_s', None, False),
]


def block(variant: str, layout: str | None, identity: bool) -> PSA:
    torch.manual_seed(0)
    psa = PSA(16, layout, variant, identity_init=identity)
    with torch.no_grad():
        for weight in psa.parameters():  # fresh ones make gates of nearly 1/2
            weight.add_(torch.randn_like(weight))
    return psa


def recombined(psa: PSA, gates: Gates, x: Tensor) -> Tensor:
    channel, spatial = gates.channel[:, :, None, None], gates.spatial[:, None]
    return x * (channel * spatial if psa.layout == 'sequential' else channel + spatial)


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('grad', [False, True])
def test_recombined_with_x_they_make_the_output(kind: tuple, grad: bool) -> None:
    psa, x = block(*kind), torch.randn(3, 16, 6, 5)
    with torch.set_grad_enabled(grad), record_gates(psa) as recorded:
        out = psa(x.requires_grad_(grad))
    (gates,) = recorded.values()
    assert gates.channel.shape == (3, 16)
    assert gates.spatial.shape == (3, 6, 5)
    assert gates.channel.std() > 0.01
    assert gates.spatial.std() > 0.01
    torch.testing.assert_close(recombined(psa, gates, x), out, rtol=1e-5, atol=1e-5)
    assert not gates.channel.requires_grad


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_the_forward_is_bit_for_bit_the_same_and_forgets(kind: tuple) -> None:
    psa, x = block(*kind), torch.randn(2, 16, 6, 5)
    alone = psa(x)
    with record_gates(psa) as recorded:
        assert torch.equal(psa(x), alone)
    assert not psa._forward_pre_hooks
    recorded.clear()
    psa(x)
    assert not recorded


def test_half_precision_gates_are_float32() -> None:
    psa, x = block('paper', 'parallel', False), torch.randn(2, 16, 6, 5)
    with torch.autocast('cpu', torch.bfloat16), record_gates(psa) as recorded:
        out = psa(x.bfloat16())
    gates = recorded['']
    assert gates.channel.dtype == gates.spatial.dtype == torch.float32
    wanted = recombined(psa, gates, x.bfloat16().float())
    torch.testing.assert_close(wanted, out.float(), rtol=2e-2, atol=2e-2)


def test_names_other_blocks_and_an_error_inside() -> None:
    pytest.importorskip('timm')
    model = nn.Sequential(PSA(8), SE(8), PSA(8))
    with record_gates(model) as recorded:
        model(torch.randn(1, 8, 4, 4))
    assert list(recorded) == ['0', '2']
    with pytest.raises(ZeroDivisionError), record_gates(model):
        raise ZeroDivisionError
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_gradients_are_the_same_while_recording() -> None:
    psa, x = block('paper', 'sequential', False), torch.randn(2, 16, 6, 5)
    gradients = []
    for record in (False, True):
        psa.zero_grad()
        if record:
            with record_gates(psa):
                psa(x).square().sum().backward()
        else:
            psa(x).square().sum().backward()
        gradients.append([w.grad.clone() for w in psa.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_one_block_a_stage_is_the_last_of_the_largest_map() -> None:
    def gates(size: int, mark: float) -> Gates:
        return Gates(torch.full((1, 4), mark), torch.zeros(1, size, size))

    recorded = {
        'backbone.layer1.0.attention': gates(8, 0.0),
        'backbone.layer1.1.attention': gates(8, 1.0),
        'backbone.stage2.0.branches.0.1.attention': gates(8, 2.0),
        'backbone.stage2.0.branches.1.1.attention': gates(4, 3.0),
    }
    chosen = one_a_stage(recorded)
    assert {name: float(g.channel[0, 0]) for name, g in chosen.items()} == {
        'layer1': 1.0,
        'stage2': 2.0,
    }
