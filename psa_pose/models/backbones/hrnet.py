"""HRNet with the parameter names of the original repository (Sun, Xiao, Liu, Wang 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from psa_pose.errors import nearest
from psa_pose.models.backbones.blocks import (
    BasicBlock,
    Block,
    Bottleneck,
    MakeAttention,
    attention_maker,
    conv,
    residual_layer,
)
from psa_pose.models.backbones.pretrained import PretrainedBackbone
from psa_pose.models.backbones.resnet import check_stages
from psa_pose.registry import MODELS, known_keys

_BLOCKS: dict[str, Block] = {'BASIC': BasicBlock, 'BOTTLENECK': Bottleneck}
_STAGES = ('stage1', 'stage2', 'stage3', 'stage4')
_STAGE = (
    *('num_modules', 'num_branches', 'block', 'num_blocks', 'num_channels'),
    'multiscale_output',
)


def _stages(
    width: int, modules: tuple[int, int, int] = (1, 4, 3), blocks: int = 4, stage1: int = 4
) -> dict[str, Any]:
    """MMPose's `extra` for branches of `width`, twice, four and eight times as many channels."""

    def stage(number: int) -> dict[str, Any]:
        return {
            'num_modules': modules[number - 2],
            'num_branches': number,
            'block': 'BASIC',
            'num_blocks': (blocks,) * number,
            'num_channels': tuple(width * 2**i for i in range(number)),
        }

    first = {
        'num_modules': 1,
        'num_branches': 1,
        'block': 'BOTTLENECK',
        'num_blocks': (stage1,),
        'num_channels': (64,),
    }
    return {'stage1': first, 'stage2': stage(2), 'stage3': stage(3), 'stage4': stage(4)}


ARCHS: dict[str, dict[str, Any]] = {
    'w18': _stages(18),
    'w32': _stages(32),
    'w48': _stages(48),
    # For the demo and for tests: everything that W32 has, once.
    'tiny': {
        **_stages(16, modules=(1, 1, 1), blocks=1),
        'stage1': {
            'num_modules': 1,
            'num_branches': 1,
            'block': 'BOTTLENECK',
            'num_blocks': (1,),
            'num_channels': (16,),
        },
        'stem_channels': 32,
    },
}


@MODELS.register_module()
class HRNet(PretrainedBackbone):
    """High-resolution network; returns its branch of stride 4.

    Args:
        arch: 'w18', 'w32', 'w48' or 'tiny'; the stages' sizes.
        extra: the stages in MMPose's words, instead of `arch`; without `multiscale_output`.
        in_channels: of the image.
        attention: config of a block built with `channels` for every residual block, or None.
        attention_stages: which of the stages 1 to 4 get it.
        init_cfg: weights to start from; see `PretrainedBackbone`.

    Shapes:
        (B, in_channels, H, W) -> one map in a tuple, as MMPose has it: (B, out_channels, H / 4,
        W / 4); H and W divisible by 32
    """

    transition1: nn.ModuleList
    transition2: nn.ModuleList
    transition3: nn.ModuleList
    stage2: nn.Sequential
    stage3: nn.Sequential
    stage4: nn.Sequential

    def __init__(
        self,
        arch: str | None = None,
        extra: Mapping[str, Any] | None = None,
        in_channels: int = 3,
        attention: Mapping[str, Any] | None = None,
        attention_stages: Sequence[int] = (1, 2, 3, 4),
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        stages = _resolve(arch, extra)
        check_stages(attention_stages)
        make = {
            s: attention_maker(attention if s in attention_stages else None) for s in range(1, 5)
        }
        stem = stages.get('stem_channels', 64)
        self.conv1 = conv(in_channels, stem, 3, 2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = conv(stem, stem, 3, 2)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        first = stages['stage1']
        block = _block(first)
        channels = first['num_channels'][0]
        self.layer1 = residual_layer(
            block, stem, channels, first['num_blocks'][0], make_attention=make[1]
        )
        widths = [channels * block.expansion]
        for number in (2, 3, 4):
            stage = stages[f'stage{number}']
            block = _block(stage)
            wanted = [c * block.expansion for c in stage['num_channels']]
            self.add_module(f'transition{number - 1}', _transition(widths, wanted))
            modules = [
                HRModule(
                    block,
                    wanted,
                    stage['num_channels'],
                    stage['num_blocks'],
                    # Only the branch of stride 4 is read in the end.
                    outputs=1 if number == 4 and i == stage['num_modules'] - 1 else number,
                    make_attention=make[number],
                )
                for i in range(stage['num_modules'])
            ]
            self.add_module(f'stage{number}', nn.Sequential(*modules))
            widths = wanted
        self.out_channels = widths[0]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # A new branch grows from the last one; the others go through their own entry.
            branches = [
                step(branches[min(i, len(branches) - 1)]) for i, step in enumerate(transition)
            ]
            branches = stage(branches)
        return (branches[0],)


class HRModule(nn.Module):
    """Parallel branches of residual blocks, then an exchange between all resolutions.

    Args:
        block: of every branch.
        widths: channels of the branches' maps.
        channels: channels inside the blocks.
        counts: blocks of each branch.
        outputs: how many of the fused maps are returned, highest resolution first.
        make_attention: builds a block's attention.
    """

    def __init__(
        self,
        block: Block,
        widths: Sequence[int],
        channels: Sequence[int],
        counts: Sequence[int],
        outputs: int,
        make_attention: MakeAttention,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            residual_layer(block, width, inside, count, make_attention=make_attention)
            for width, inside, count in zip(widths, channels, counts, strict=True)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for fuse in self.fuse_layers:
            assert isinstance(fuse, nn.ModuleList)
            first, *others = (layer(x) for layer, x in zip(fuse, maps, strict=True))
            fused.append(self.relu(sum(others, first)))
        return fused


def _fuse(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """What takes branch `source` to the shape of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            conv(widths[source], widths[target], 1),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode='nearest'),
        )
    steps: list[nn.Module] = []
    for step in range(target - source):
        last = step == target - source - 1
        out = widths[target] if last else widths[source]
        steps.append(_conv_bn(widths[source], out, stride=2, relu=not last))
    return nn.Sequential(*steps)


def _transition(have: Sequence[int], want: Sequence[int]) -> nn.ModuleList:
    """Entries to the next stage's branches: a change of width, nothing, or a new resolution."""
    entries: list[nn.Module] = []
    for i, width in enumerate(want):
        if i < len(have):
            same = have[i] == width
            entries.append(nn.Identity() if same else _conv_bn(have[i], width))
        else:
            entries.append(nn.Sequential(_conv_bn(have[-1], width, stride=2)))
    return nn.ModuleList(entries)


def _conv_bn(
    in_channels: int, out_channels: int, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        conv(in_channels, out_channels, 3, stride),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def _block(stage: Mapping[str, Any]) -> Block:
    if stage['block'] not in _BLOCKS:
        raise ValueError(f"unknown block '{stage['block']}'; {nearest(stage['block'], _BLOCKS)}")
    return _BLOCKS[stage['block']]


def _resolve(arch: str | None, extra: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if (arch is None) == (extra is None):
        raise ValueError("give either arch (such as 'w32') or extra (the stages), not both or none")
    if extra is not None:
        extra = known_keys(extra, (*_STAGES, 'stem_channels'), 'extra')
        extra = {
            key: known_keys(value, _STAGE, f'extra.{key}') if key in _STAGES else value
            for key, value in extra.items()
        }
        if extra.get('stage4', {}).get('multiscale_output'):
            raise ValueError('extra.stage4.multiscale_output: this HRNet gives one map only')
        return extra
    if arch not in ARCHS:
        raise ValueError(f"unknown arch '{arch}'; {nearest(str(arch), ARCHS)}")
    return ARCHS[arch]
