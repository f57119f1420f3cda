"""A file's weights against a model's: by name and shape, refused where too little fits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from psa_pose.errors import CheckpointError
from psa_pose.models.checkpoints.causes import architecture, likeliest_cause, psa_variant
from psa_pose.models.checkpoints.formats import Weights

BLOCK = '.attention.'
COUNTER = (
    '.num_batches_tracked'  # of BatchNorm; PyTorch before 0.4.1 had none, and nothing needs it
)


@dataclass
class Fit:
    """What of a file goes into a model.

    Attributes:
        take: values by the model's names, all of the model's shapes.
        reshaped: those of `take` whose shape in the file is another.
        missing: names of the model that stay as they are.
        unexpected: names in the file (in the estimator's words) for which there is no place.
        new_blocks: attention blocks of which the file has nothing.
        warning: what a reader should know though the weights were taken, or ''.
    """

    take: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    new_blocks: list[str] = field(default_factory=list)
    warning: str = ''


def fit(
    weights: Weights, wanted: Mapping[str, Tensor], head: Mapping[str, Tensor], path: Path
) -> Fit:
    """Compare names and shapes.

    Args:
        weights: of the file.
        wanted: the model's state.
        head: layers that were rebuilt for the model; see `fit_keypoints`.
        path: for error messages.

    Raises:
        CheckpointError: a shape that differs, attention of another variant, or less than half of
            the backbone (attention aside).
    """
    state, result, misfits = weights.state, Fit(), []
    for name, own in wanted.items():
        if name in head:
            result.take[name] = head[name]
            result.reshaped.append(name)
        elif name not in state:
            if not name.endswith(COUNTER):
                result.missing.append(name)
        elif state[name].shape == own.shape:
            result.take[name] = state[name]
        elif _without_ones(state[name]) == _without_ones(own):  # a linear layer for a 1x1 conv
            result.take[name] = state[name].reshape(own.shape)
            result.reshaped.append(name)
        else:
            misfits.append(name)
    result.unexpected = [name for name in state if name not in wanted]
    if wanted.keys() & state.keys():  # else all are new, and the next check says the rest
        result.new_blocks = _new_blocks(weights, wanted, path)
    _check_backbone(weights, wanted, result.take, path)
    if misfits:
        name = misfits[0]
        raise CheckpointError(
            f'{path} ({weights.format}): {len(misfits)} parameters have another shape, first '
            f'{name}: {tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the '
            'model; is the config the one it was trained with?'
        )
    theirs, ours = architecture(state), architecture(wanted)
    if theirs and ours and theirs != ours:
        result.warning = f'the file is a {theirs}, the model a {ours}: what fits by name was taken'
    return result


def _without_ones(value: Tensor) -> list[int]:
    return [size for size in value.shape if size != 1]


def _check_backbone(
    weights: Weights, wanted: Mapping[str, Tensor], take: Mapping[str, Tensor], path: Path
) -> None:
    backbone = {
        name: value
        for name, value in wanted.items()
        if name.startswith('backbone.') and BLOCK not in name and not name.endswith(COUNTER)
    }
    matched = sum(name in take for name in backbone)
    if 2 * matched < len(backbone):
        raise CheckpointError(
            f'{path} ({weights.format}): only {matched} of {len(backbone)} backbone parameters '
            f'are in it (looked for {some(list(backbone))}; it has '
            f'{some(list(weights.source.values()))}); likeliest cause: '
            f'{likeliest_cause(weights.state, backbone)}'
        )


def _new_blocks(weights: Weights, wanted: Mapping[str, Tensor], path: Path) -> list[str]:
    """Attention blocks that the file lacks; one of which it has another kind is refused."""
    ours, theirs = _by_block(wanted), _by_block(weights.state)
    for block in ours:
        if block in theirs and ours[block] != theirs[block]:
            there, here = psa_variant(theirs[block]), psa_variant(ours[block])
            raise CheckpointError(
                f'{path} ({weights.format}): its {block} has {", ".join(sorted(theirs[block]))} '
                f"({there}), the model's has {', '.join(sorted(ours[block]))} ({here}); set "
                'model.backbone.attention to what it was trained with'
            )
    return [block for block in ours if block not in theirs]


def _by_block(state: Mapping[str, Tensor]) -> dict[str, set[str]]:
    blocks: dict[str, set[str]] = {}
    for name in state:
        place, found, inside = name.partition(BLOCK)
        if found and not name.endswith(COUNTER):
            blocks.setdefault(place + BLOCK.rstrip('.'), set()).add(inside)
    return blocks


def some(names: list[str], limit: int = 3) -> str:
    """The first few of many names."""
    return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')
