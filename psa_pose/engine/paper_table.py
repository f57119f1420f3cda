"""The costs in the PSA paper's table of COCO results (384x288 pixels) beside what is counted here.

The paper's GFLOPs are those of HRNet's repository (`get_model_summary` in its lib/utils/utils.py),
and three habits of that function have to be shared to arrive at them:

- one GFLOP is 2**30 multiply-adds;
- convolutions only, by weights times *output* pixels: four times the multiply-adds of a stride-2
  transposed convolution, and so 20.2 for SimpleBaseline-R50 where 12.2 G are computed;
- the plain networks' numbers are those printed for 256x192, rounded down, times 2.25 (8.9 -> 20.0,
  15.7 -> 35.3, 7.1 -> 16.0, 14.6 -> 32.9).

PSA spelled out, as its authors write it, for C channels and N pixels: three C x C/2 convolutions
(Wv, Wq', Wv'), C -> 1 (Wq), Wz on one pixel, and two products of a C/2 vector with C/2 x N values:

    3 C (C/2) N + C N + C (C/2) + 2 (C/2) N  =  1.5 C^2 N + 2 C N + C^2/2

Collapsed, as `psa_pose.models.PSA` computes it: three products of a vector with x, and four C x C/2
matrices with vectors: 3 C N + 2 C^2. Both layouts cost the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from psa_pose.models import PSA
from psa_pose.models.cost import measure
from psa_pose.registry import MODELS

HEIGHT, WIDTH = 384, 288
RESNET_HEAD = {'type': 'HeatmapHead'}
HRNET_HEAD = {'type': 'HeatmapHead', 'deconv_out_channels': ()}
# name, backbone, head, and as printed: GFLOPs and million parameters, plain and with PSA
PRINTED: tuple[tuple[str, dict, dict, tuple[float, float], tuple[float, float]], ...] = (
    ('R50', {'type': 'ResNet', 'depth': 50}, RESNET_HEAD, (20.0, 20.9), (34.0, 36.1)),
    ('R152', {'type': 'ResNet', 'depth': 152}, RESNET_HEAD, (35.3, 37.5), (68.6, 75.2)),
    ('W32', {'type': 'HRNet', 'arch': 'w32'}, HRNET_HEAD, (16.0, 17.1), (28.5, 31.4)),
    ('W48', {'type': 'HRNet', 'arch': 'w48'}, HRNET_HEAD, (32.9, 35.2), (63.6, 70.0)),
)
CAPTION = (
    f"{HEIGHT}x{WIDTH} (HxW), 17 keypoints. GFLOPs, same way: counted here as HRNet's repository "
    'counts (2^30 multiply-adds of\nconvolutions, transposed ones fourfold). Computed: 10^9 '
    "multiply-adds, as they are. The paper's parameters of R50 +PSA are those\n"
    "of the authors' sequential code (official_s), the others those of its figure 2, as here."
)


class _Network(nn.Module):
    """A backbone and the head that makes heatmaps of it, without codec and dataset."""

    def __init__(self, backbone: Mapping[str, Any], head: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        channels = self.backbone.out_channels
        self.head = MODELS.build(head, in_channels=channels, out_channels=17)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def spelled_out_macs(channels: int, pixels: int) -> int:
    """Multiply-adds of one PSA as its authors write it; see the head of this file."""
    half = channels // 2
    return 3 * channels * half * pixels + 2 * channels * pixels + channels * half


def _hooked_macs(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Of all convolutions the way HRNet's repository counts, and of all PSA blocks spelled out."""
    convolutions, attention = 0, 0

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal convolutions, attention
        pixels = out.shape[2] * out.shape[3]
        if isinstance(module, PSA):  # whose own convolutions are never called
            attention += spelled_out_macs(module.channels, pixels)
        else:
            convolutions += module.weight.numel() * pixels  # type: ignore[operator]

    kinds = (PSA, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(torch.empty(1, 3, height, width, device='meta'))
    for hook in hooks:
        hook.remove()
    return convolutions, attention


def paper_costs() -> list[dict[str, Any]]:
    """One record for each network of the paper's table; G is 1e9, GFLOPs are the paper's way."""
    return [_record(*printed) for printed in PRINTED]


def _record(
    name: str,
    backbone: Mapping[str, Any],
    head: Mapping[str, Any],
    gflops: tuple[float, float],
    parameters: tuple[float, float],
) -> dict[str, Any]:
    with torch.device('meta'):
        plain = _Network(backbone, head)
        with_psa = _Network({**backbone, 'attention': {'type': 'PSA'}}, head)
    convolutions, spelled_out = _hooked_macs(with_psa, HEIGHT, WIDTH)
    costs = measure(plain, HEIGHT, WIDTH), measure(with_psa, HEIGHT, WIDTH)
    millions = [sum(cost.parameters.values()) / 1e6 for cost in costs]
    computed = [sum(cost.macs.values()) / 1e9 for cost in costs]
    return {
        'network': name,
        'parameters_m': {'plain': millions[0], 'psa': millions[1]},
        'parameters_m_paper': {'plain': parameters[0], 'psa': parameters[1]},
        'gflops_paper': {'plain': gflops[0], 'psa': gflops[1]},
        'gflops_same_way': {
            'plain': convolutions / 2**30,
            'psa': (convolutions + spelled_out) / 2**30,
        },
        'gmacs': {
            'plain': computed[0],
            'psa_spelled_out': computed[0] + spelled_out / 1e9,
            'psa': computed[1],
        },
        'psa_saves': 1 - costs[1].macs['attention'] / spelled_out,
    }


def paper_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """The paper's columns, each beside what is counted here."""
    table = Table(caption=CAPTION, caption_justify='left')
    table.add_column('network', no_wrap=True)
    for name in (
        'params M\nplain\npaper|here',
        '\n+PSA\npaper|here',
        'GFLOPs, plain\n\npaper|same way',
        'GFLOPs, +PSA\nspelled out\npaper|same way',
        'computed, G\nplain\n',
        '\n+PSA\nspelled out',
        '\n+PSA\nhere',
        'PSA alone\nspelled out\n-> here',
        '\nof PSA\nsaved',
    ):
        table.add_column(name, justify='right', no_wrap=True)
    for r in records:
        gmacs = r['gmacs']
        added = [gmacs[name] - gmacs['plain'] for name in ('psa_spelled_out', 'psa')]
        table.add_row(
            r['network'],
            *(
                f'{r[paper][kind]:.1f} | {r[here][kind]:.2f}'
                for paper, here in (
                    ('parameters_m_paper', 'parameters_m'),
                    ('gflops_paper', 'gflops_same_way'),
                )
                for kind in ('plain', 'psa')
            ),
            *(f'{gmacs[kind]:.2f}' for kind in ('plain', 'psa_spelled_out', 'psa')),
            f'{added[0]:.3f} -> {added[1]:.3f}',
            f'{100 * r["psa_saves"]:.1f}%',
        )
    return table
