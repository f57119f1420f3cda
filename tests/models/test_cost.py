"""Costs of models against numbers computed by hand, and against real runs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from psa_pose.codecs import MSRAHeatmap
from psa_pose.datasets import CocoDataset
from psa_pose.models import PSA, TopdownPoseEstimator
from psa_pose.models.cost import PARTS, measure, part_of

TINY = {'type': 'HRNet', 'arch': 'tiny'}
R18 = {'type': 'ResNet', 'depth': 18}


class Handmade(nn.Module):
    """A model of whose every product the size can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.backbone.layer1 = nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU(inplace=True)
        )
        self.backbone.transition1 = nn.ModuleList([nn.Conv2d(6, 5, 1)])
        self.head = nn.ConvTranspose2d(5, 7, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone.layer1(self.backbone.conv1(x))
        x = self.backbone.transition1[0](x)
        return self.head(x)


def estimator(backbone: dict[str, Any], attention: dict[str, Any] | None = None) -> Any:
    head = {'type': 'HeatmapHead', 'deconv_out_channels': ()}
    codec = MSRAHeatmap(input_size=(96, 64), heatmap_size=(24, 16), sigma=1.5)
    assert CocoDataset.KEYPOINTS is not None
    return TopdownPoseEstimator(
        {**backbone, 'attention': attention}, head, codec, CocoDataset.KEYPOINTS
    )


def test_numbers_computed_by_hand():
    cost = measure(Handmade(), height=64, width=32)
    pixels = 32 * 16
    assert {part: n for part, n in cost.macs.items() if n} == {
        'stem': 3 * 4 * 9 * pixels,
        'stage 1': 4 // 2 * 6 * 9 * pixels,
        'stage 2': 6 * 5 * pixels,
        'head': 5 * 7 * 16 * pixels,  # every input pixel times every weight
    }
    assert {part: n for part, n in cost.parameters.items() if n} == {
        'stem': 3 * 4 * 9,
        'stage 1': 4 // 2 * 6 * 9 + 6,
        'stage 2': 6 * 5 + 5,
        'head': 5 * 7 * 16,
    }
    assert {part: n for part, n in cost.kept_bytes.items() if n} == {
        'stem': 4 * 3 * 64 * 32,  # the image
        'stage 1': 4 * (4 + 6) * pixels,  # the input of its convolution, and ReLU's output
        'head': 4 * (5 * pixels + 7 * 64 * 32),  # its input and the heatmaps
    }  # stage 2 needs what the ReLU keeps
    assert cost.heatmaps == (7, 64, 32)


@pytest.mark.parametrize(
    ('name', 'part'),
    [
        ('backbone.conv1.weight', 'stem'),
        ('backbone.layer1.0.conv1', 'stage 1'),
        ('backbone.layer4', 'stage 4'),
        ('backbone.stage3.2.branches.0', 'stage 3'),
        ('backbone.transition3.3', 'stage 4'),
        ('backbone.stage3.2.branches.0.1.attention.conv_up', 'attention'),
        ('backbone', 'stem'),
        ('head.final_layer', 'head'),
    ],
)
def test_parts(name, part):
    assert part_of(name) == part
    assert part in PARTS


@pytest.mark.parametrize('backbone', [TINY, R18], ids=['tiny', 'r18'])
@pytest.mark.parametrize('layout', ['parallel', 'sequential'])
def test_psa_costs_what_its_formula_says(backbone, layout):
    """Through its hand-written autograd function: 3 C N + 2 C^2."""
    model = estimator(backbone, {'type': 'PSA', 'layout': layout})
    expected = 0

    def add(psa: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal expected
        _, channels, height, width = out.shape
        expected += 3 * channels * height * width + 2 * channels**2

    for module in model.modules():
        if isinstance(module, PSA):
            module.register_forward_hook(add)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    by_hand = expected  # measuring calls the hooks again
    assert measure(model, 64, 96).macs['attention'] == by_hand > 0
    assert measure(estimator(backbone), 64, 96).macs['attention'] == 0


@pytest.mark.parametrize('backbone', [TINY, R18], ids=['tiny', 'r18'])
@pytest.mark.parametrize('attention', [None, 'PSA', 'NonLocal', 'DensePSA'])
def test_kept_bytes_are_those_of_a_real_run(backbone, attention):
    model = estimator(backbone, attention and {'type': attention})
    state = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        heatmaps = model.train()(torch.randn(1, 3, 64, 96))
    note(heatmaps)
    expected = sum(s.nbytes() for key, s in kept.items() if key not in state)
    assert sum(measure(model, 64, 96).kept_bytes.values()) == expected


def test_the_model_is_left_as_it_was():
    model = estimator(TINY, {'type': 'PSA'}).eval()
    model.backbone.layer1.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    measure(model, 64, 64)
    assert [module.training for module in model.modules()] == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_meta_models_cost_the_same_and_frozen_ones_keep_less():
    with torch.device('meta'):
        meta = estimator(TINY, {'type': 'DensePSA'})
    assert measure(meta, 64, 64) == measure(estimator(TINY, {'type': 'DensePSA'}), 64, 64)
    whole = measure(meta, 64, 64)
    meta.backbone.requires_grad_(False)
    with torch.no_grad():  # of the caller: costs are those of training
        frozen = measure(meta, 64, 64)
    assert frozen.macs == whole.macs
    assert 0 < sum(frozen.kept_bytes.values()) < sum(whole.kept_bytes.values()) / 10
