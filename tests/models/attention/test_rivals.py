"""Every block that may stand where PSA stands: its formula, and the settings that it runs in."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from psa_pose.errors import ConfigError
from psa_pose.models import CBAM, GC, SE, NonLocal
from psa_pose.registry import MODELS

pytest.importorskip('timm')

OWN = [dict(type='NonLocal'), dict(type='DensePSA'), dict(type='DensePSA', fusion='gated', heads=2)]
TIMMS = [dict(type='SE'), dict(type='CBAM'), dict(type='GC'), dict(type='GC', fuse='scale')]
blocks = pytest.mark.parametrize(
    'config', [*TIMMS, *OWN], ids=lambda c: '-'.join(map(str, c.values()))
)
# A bias of the logits of a softmax changes nothing, and so has no gradient.
INERT = {'block.conv_attn.bias'}


def build(config: dict[str, Any], channels: int) -> nn.Module:
    """A block whose every parameter matters: nothing starts at zero."""
    torch.manual_seed(0)
    block = MODELS.build(config, channels=channels)
    for parameter in block.parameters():
        nn.init.normal_(parameter, mean=0.2, std=0.5)
    return block


# --- what it computes


def conv(x: Tensor, layer: nn.Module) -> Tensor:
    """A 1x1 convolution as a matrix product, of B x C x N values."""
    y = torch.einsum('oc,bcn->bon', layer.weight.flatten(1), x)
    return y if layer.bias is None else y + layer.bias[:, None]


def squeeze_and_excitation(block: SE, x: Tensor) -> Tensor:
    hidden = conv(x.mean((2, 3)).unsqueeze(2), block.block.fc1).relu()
    return x * conv(hidden, block.block.fc2).sigmoid().unsqueeze(3)


def cbam(block: CBAM, x: Tensor) -> Tensor:
    channel, spatial = block.block.channel, block.block.spatial
    pooled = (x.mean((2, 3)), x.flatten(2).max(2).values)
    gates = (conv(conv(p.unsqueeze(2), channel.fc1).relu(), channel.fc2) for p in pooled)
    y = x * sum(gates).sigmoid().unsqueeze(3)
    maps = torch.stack([y.mean(1), y.max(1).values], 1)
    logits = nn.functional.conv2d(maps, spatial.conv.conv.weight, padding=3)
    bn = spatial.conv.bn
    mean, var = logits.mean(), logits.var(correction=0)
    return y * ((logits - mean) / (var + bn.eps).sqrt() * bn.weight + bn.bias).sigmoid()


def global_context(block: GC, x: Tensor) -> Tensor:
    pixels, inner = x.flatten(2), block.block
    context = pixels @ conv(pixels, inner.conv_attn).softmax(2).mT  # B x C x 1
    mlp = inner.mlp_add or inner.mlp_scale
    hidden = conv(context, mlp.fc1)
    mean, var = hidden.mean(1, keepdim=True), hidden.var(1, correction=0, keepdim=True)
    hidden = (hidden - mean) / (var + 1e-6).sqrt()
    hidden = hidden * mlp.norm.weight[:, None] + mlp.norm.bias[:, None]
    out = conv(hidden.relu(), mlp.fc2).unsqueeze(3)
    return x + out if block.block.mlp_add else x * out.sigmoid()


FORMULAS = {'SE': squeeze_and_excitation, 'CBAM': cbam, 'GC': global_context}


@pytest.mark.parametrize('config', TIMMS, ids=lambda c: '-'.join(map(str, c.values())))
def test_timms_blocks_compute_their_papers_formulas(config):
    block = build(config, 32).double()
    x = torch.randn(2, 32, 9, 7, dtype=torch.double)
    torch.testing.assert_close(block(x), FORMULAS[config['type']](block, x))


def test_non_local_computes_what_timms_does():
    """Where both may: timm divides logits by sqrt(C), this by sqrt(C/2); its biases are zero."""
    from timm.layers.non_local_attn import NonLocalAttn

    ours = build(dict(type='NonLocal'), 16).double()
    theirs = NonLocalAttn(16, rd_channels=8).double()
    for name, layer in (('t', ours.theta), ('p', ours.phi), ('g', ours.g), ('z', ours.z)):
        weight = layer.weight * (2**0.5 if name == 't' else 1)
        getattr(theirs, name).weight.data = weight[:, :, None, None].detach()
        nn.init.zeros_(getattr(theirs, name).bias)
    theirs.norm.load_state_dict(ours.norm.state_dict())
    x = torch.randn(2, 16, 5, 6, dtype=torch.double)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize('channels', [16, 18, 64, 512])
def test_the_width_inside(channels):
    assert SE(channels).block.fc1.out_channels == max(8, channels // 16)
    assert CBAM(channels).block.channel.fc1.out_channels == max(8, channels // 16)
    assert GC(channels, reduction=4).block.mlp_add.fc1.out_channels == max(8, channels // 4)
    assert NonLocal(channels).theta.out_features == channels // 2


@pytest.mark.parametrize('kind', ['GC', 'NonLocal'])
def test_starts_as_the_identity(kind):
    block, x = MODELS.build(dict(type=kind), channels=16), torch.randn(2, 16, 5, 3)
    assert torch.equal(block(x), x)


# --- where it runs


@blocks
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_and_gradients_of_all_parameters(config, dtype):
    block, x = build(config, 16).to(dtype), torch.randn(2, 16, 6, 5, dtype=dtype)
    y = block(x.requires_grad_())
    assert (y.shape, y.dtype) == (x.shape, dtype)
    y.square().mean().backward()
    assert x.grad.isfinite().all()
    for name, parameter in block.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert name in INERT or parameter.grad.abs().sum() > 0, name


@blocks
def test_channels_last(config):
    block, x = build(config, 16).double(), torch.randn(2, 16, 6, 5, dtype=torch.double)
    expected = block(x)
    actual = block(x.to(memory_format=torch.channels_last))
    assert expected.is_contiguous()
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected)


@blocks
def test_autocast(config):
    block, x = build(config, 16), torch.randn(2, 16, 6, 5)
    with torch.autocast('cpu', torch.bfloat16):
        y = block(x)
    torch.testing.assert_close(y.float(), block(x), rtol=0.1, atol=0.1)


@blocks
@pytest.mark.parametrize(
    'backbone', [dict(type='ResNet', depth=18), dict(type='HRNet', arch='tiny')], ids=['r18', 'hr']
)
def test_one_step_inside_a_backbone_lowers_the_loss(config, backbone):
    torch.manual_seed(0)
    model = MODELS.build({**backbone, 'attention': config})
    x = torch.randn(2, 3, 64, 64)
    target = torch.randn_like(model(x)[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def loss() -> Tensor:
        return (model(x)[-1] - target).square().mean()

    before = loss()
    before.backward()
    optimizer.step()
    assert loss() < before
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# --- what it refuses


@blocks
def test_an_unknown_keyword_is_named(config):
    with pytest.raises(ConfigError, match=r"backbone\.attention: .* takes no keyword 'ratio'"):
        MODELS.build(
            dict(type='HRNet', arch='tiny', attention={**config, 'ratio': 2}), at='backbone'
        )


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        (dict(type='SE', channels=0), 'channels=0, reduction=16: both must be positive'),
        (dict(type='NonLocal', channels=8, reduction=0), 'reduction=0'),
        (dict(type='CBAM', channels=8, kernel_size=4), 'kernel_size=4 must be odd'),
        (dict(type='GC', channels=8, fuse='ad'), "unknown fuse 'ad': did you mean 'add'"),
        (dict(type='GC', channels=8, fuse='x'), "allowed: 'add', 'scale'"),
    ],
)
def test_arguments_that_do_not_fit(config, said):
    with pytest.raises(ConfigError, match=said):
        MODELS.build(config)


@blocks
@pytest.mark.parametrize('shape', [(2, 4, 3, 3), (16, 3, 3), (2, 16, 0, 3)])
def test_inputs_that_do_not_fit(config, shape):
    said = f'{config["type"]}.16. takes B x 16 x H x W .*not {" x ".join(map(str, shape))}'
    with pytest.raises(ValueError, match=said):
        build(config, 16)(torch.randn(shape))


@pytest.mark.parametrize(
    ('kind', 'module'), [('SE', 'squeeze_excite'), ('CBAM', 'cbam'), ('GC', 'global_context')]
)
def test_without_timm_the_error_says_what_to_install(monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, f'timm.layers.{module}', None)
    said = r"backbone\.attention: .*timm.*pip install 'psa-pose\[rivals\]'"
    with pytest.raises(ConfigError, match=said):
        MODELS.build(dict(type='HRNet', arch='tiny', attention=dict(type=kind)), at='backbone')


def test_nothing_imports_timm_before_it_is_used():
    code = "import sys, psa_pose.models; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
