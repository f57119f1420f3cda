"""ResNet and HRNet: sizes, names, shapes, and where attention goes."""

from typing import Any

import pytest
import torch
from torch import nn

from psa_pose.errors import ConfigError
from psa_pose.models import PSA, HRNet, ResNet
from psa_pose.models.backbones.blocks import BasicBlock, Bottleneck
from psa_pose.registry import MODELS

PARALLEL = {'type': 'PSA', 'layout': 'parallel'}
SEQUENTIAL = {'type': 'PSA', 'layout': 'sequential'}
AUTHORS_SEQUENTIAL = {'type': 'PSA', 'variant': 'official_s'}


def million_parameters(backbone: dict[str, Any], attention: dict[str, Any] | None) -> float:
    """Of backbone and head for 17 keypoints."""
    body = MODELS.build({**backbone, 'attention': attention})
    deconv = (256, 256, 256) if backbone['type'] == 'ResNet' else ()
    head = MODELS.build(
        {'type': 'HeatmapHead', 'deconv_out_channels': deconv},
        in_channels=body.out_channels,
        out_channels=17,
    )
    return sum(p.numel() for m in (body, head) for p in m.parameters()) / 1e6


# The paper's sequential counts are those of the authors' bottleneck Wz ('official_s'); its figure 2
# ('paper') has the same matrices in both layouts.
@pytest.mark.parametrize(
    ('backbone', 'plain', 'parallel', 'authors_sequential'),
    [
        ({'type': 'ResNet', 'depth': 50}, 34.0, 36.5, 36.1),
        ({'type': 'ResNet', 'depth': 152}, 68.6, 75.2, 74.2),
        ({'type': 'HRNet', 'arch': 'w32'}, 28.5, 31.4, 30.9),
        ({'type': 'HRNet', 'arch': 'w48'}, 63.6, 70.0, 69.0),
    ],
    ids=['r50', 'r152', 'w32', 'w48'],
)
def test_parameter_counts_of_the_paper(
    backbone: dict[str, Any], plain: float, parallel: float, authors_sequential: float
) -> None:
    with torch.device('meta'):
        assert million_parameters(backbone, None) == pytest.approx(plain, abs=0.05)
        assert million_parameters(backbone, PARALLEL) == pytest.approx(parallel, abs=0.055)
        assert million_parameters(backbone, SEQUENTIAL) == million_parameters(backbone, PARALLEL)
        assert million_parameters(backbone, AUTHORS_SEQUENTIAL) == pytest.approx(
            authors_sequential, abs=0.1
        )


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_resnet_has_torchvisions_names_and_shapes(depth: int) -> None:
    torchvision = pytest.importorskip('torchvision')
    with torch.device('meta'):
        theirs = getattr(torchvision.models, f'resnet{depth}')().state_dict()
        ours = ResNet(depth).state_dict()
    expected = {k: v.shape for k, v in theirs.items() if not k.startswith('fc.')}
    assert {k: v.shape for k, v in ours.items()} == expected


def test_resnet_computes_what_torchvisions_does() -> None:
    torchvision = pytest.importorskip('torchvision')
    theirs = torchvision.models.resnet50().eval()
    ours = ResNet(50).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ['fc.weight', 'fc.bias'])
    x = torch.randn(1, 3, 64, 64)
    body = nn.Sequential(*list(theirs.children())[:-2])
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), (body(x),))


def test_hrnet_has_the_original_repositorys_names() -> None:
    with torch.device('meta'):
        names = set(HRNet('w32').state_dict())
    # A sample over every kind of part, written down from the published checkpoint's keys.
    for name in (
        'conv1.weight',
        'bn2.running_mean',
        'layer1.0.downsample.0.weight',
        'layer1.3.conv3.weight',
        'transition1.0.0.weight',
        'transition1.1.0.0.weight',
        'stage2.0.branches.1.3.conv2.weight',
        'stage2.0.fuse_layers.0.1.0.weight',
        'transition2.2.0.1.weight',
        'stage3.3.fuse_layers.2.0.0.0.weight',
        'stage3.3.fuse_layers.2.0.1.1.bias',
        'transition3.3.0.0.weight',
        'stage4.2.fuse_layers.0.3.0.weight',
    ):
        assert name in names
    assert not any(name.startswith('stage4.2.fuse_layers.1') for name in names)
    assert not any(name.startswith(('transition2.0', 'transition3.1')) for name in names)


def test_hrnet_takes_mmposes_extra() -> None:
    stages = {
        f'stage{n}': {
            'num_modules': 1,
            'num_branches': n,
            'block': 'BASIC',
            'num_blocks': (1,) * n,
            'num_channels': tuple(8 * 2**i for i in range(n)),
        }
        for n in (2, 3, 4)
    }
    first = {'num_modules': 1, 'num_branches': 1, 'block': 'BOTTLENECK', 'num_blocks': (1,)}
    model = HRNet(extra={'stage1': {**first, 'num_channels': (16,)}, **stages}, attention=PARALLEL)
    (out,) = model(torch.randn(2, 3, 64, 32))
    assert out.shape == (2, 8, 16, 8)
    stages['stage4']['multiscale_output'] = True
    with pytest.raises(ValueError, match='HRNet gives one map only'):
        HRNet(extra=stages)


@pytest.mark.parametrize(
    ('config', 'shape'),
    [
        ({'type': 'ResNet', 'depth': 18}, (2, 512, 4, 3)),
        ({'type': 'ResNet', 'depth': 50}, (2, 2048, 4, 3)),
        ({'type': 'HRNet', 'arch': 'tiny'}, (2, 16, 32, 24)),
        ({'type': 'HRNet', 'arch': 'w18'}, (2, 18, 32, 24)),
    ],
    ids=['r18', 'r50', 'tiny', 'w18'],
)
@pytest.mark.parametrize('attention', [None, PARALLEL, SEQUENTIAL, AUTHORS_SEQUENTIAL])
def test_output_shape_and_gradients(
    config: dict[str, Any], shape: tuple[int, ...], attention: dict[str, Any] | None
) -> None:
    if attention == AUTHORS_SEQUENTIAL and config.get('arch') == 'w18':
        with pytest.raises(ConfigError, match=r'channels=18.*official_s.*multiple of 8'):
            MODELS.build({**config, 'attention': attention})
        return
    model = MODELS.build({**config, 'attention': attention})
    (out,) = model(torch.randn(2, 3, 128, 96))
    assert out.shape == shape
    assert model.out_channels == shape[1]
    out.square().mean().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert dead == []


@pytest.mark.parametrize(
    'config', [{'type': 'ResNet', 'depth': 50}, {'type': 'HRNet', 'arch': 'tiny'}]
)
def test_attention_stands_in_every_block_of_the_chosen_stages(config: dict[str, Any]) -> None:
    with torch.device('meta'):
        model = MODELS.build({**config, 'attention': PARALLEL, 'attention_stages': (2, 4)})
    prefixes = {'ResNet': 'layer', 'HRNet': 'stage'}[config['type']]
    for name, block in model.named_modules():
        if isinstance(block, BasicBlock | Bottleneck):
            expected = name.startswith((f'{prefixes}2', f'{prefixes}4'))
            assert isinstance(block.attention, PSA) is expected, name
            if expected:
                assert block.attention.channels == block.bn2.num_features


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'ResNet', 'depth': 51}, r'depth must be one of \[18, 34, 50, 101, 152\], got 51'),
        ({'type': 'HRNet', 'arch': 'w23'}, r"unknown arch 'w23'; did you mean 'w32'"),
        ({'type': 'HRNet'}, 'give either arch'),
        ({'type': 'ResNet', 'depth': 18, 'attention_stages': (0, 1)}, r'among 1, 2, 3, 4'),
        (
            {'type': 'HRNet', 'arch': 'w32', 'attention': {'type': 'PSA', 'layout': 'paralel'}},
            r"backbone\.attention \(PSA\): unknown layout 'paralel'",
        ),
        (
            {'type': 'HRNet', 'arch': 'w32', 'attention': {'type': 'Psa'}},
            r"backbone\.attention: unknown model type 'Psa'; did you mean 'PSA'",
        ),
    ],
)
def test_bad_configs_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS.build(config, at='backbone')


@pytest.mark.parametrize('layout', ['parallel', 'sequential'])
@pytest.mark.parametrize(
    'config',
    [{'type': 'ResNet', 'depth': depth} for depth in (18, 34, 50, 101, 152)]
    + [{'type': 'HRNet', 'arch': arch} for arch in ('tiny', 'w18', 'w32', 'w48')],
    ids=lambda config: str(config.get('depth', config.get('arch'))),
)
def test_identity_init_leaves_a_trained_network_as_it_was(
    config: dict[str, Any], layout: str
) -> None:
    torch.manual_seed(0)
    plain = MODELS.build(config).eval()
    for module in plain.modules():  # statistics as of a trained network
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    attention = {'type': 'PSA', 'layout': layout, 'identity_init': True}
    model = MODELS.build({**config, 'attention': attention}).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and missing and all('.attention.' in name for name in missing)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-5, atol=1e-5)
