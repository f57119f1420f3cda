"""A head of other keypoints: rebuilt, its channels copied from those of the same name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from psa_pose.errors import CheckpointError
from psa_pose.models.checkpoints.formats import Weights

FINAL = ('head.final_layer.weight', 'head.final_layer.bias')


def normal_name(name: str) -> tuple[str, ...]:
    """Words of a keypoint's name, sorted: `left_ankle`, `LeftAnkle`, `l ankle`, `ankle-left`."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+', name)
    sides = {'l': 'left', 'r': 'right'}
    return tuple(sorted(sides.get(word.lower(), word.lower()) for word in words))


def fit_keypoints(
    weights: Weights,
    wanted: Mapping[str, Tensor],
    names: Sequence[str],
    path: Path,
    strict: bool,
) -> tuple[dict[str, Tensor], str]:
    """The head's last layer for the model's keypoints.

    Args:
        weights: of the file.
        wanted: the model's state, the head's fresh weights among it.
        names: of the model's K keypoints, in its order.
        path: for error messages.
        strict: refuse a head of others.

    Returns:
        What to put in place of the file's last layer, and how to say it; nothing where it fits.

    Raises:
        CheckpointError: strict, and the file's keypoints or channels are others.
    """
    ours, theirs = wanted.get(FINAL[0]), weights.state.get(FINAL[0])
    if ours is None or theirs is None or ours.shape[1:] != theirs.shape[1:]:
        return {}, ''
    known = _names_of(weights, len(theirs), strict or len(theirs) == len(ours))
    if known is None:
        if len(ours) == len(theirs):
            return {}, ''
    elif len(theirs) // len(known) == len(ours) // len(names) and _same(known, names):
        return {}, ''
    if strict:
        raise CheckpointError(_misfit(path, known, len(theirs), names, len(ours)))

    channels = len(ours) // len(names)
    new = {name: wanted[name].clone() for name in FINAL if name in wanted}
    shared = {}
    if known and len(theirs) == channels * len(known):
        place = {normal_name(name): i for i, name in enumerate(known)}
        shared = {i: place[n] for i, name in enumerate(names) if (n := normal_name(name)) in place}
    for name, value in new.items():
        if name in weights.state:
            for here, there in shared.items():
                rows = slice(here * channels, (here + 1) * channels)
                value[rows] = weights.state[name][there * channels : (there + 1) * channels]
    return new, _say(known, len(theirs), names, channels, shared)


def _names_of(weights: Weights, channels: int, as_it_is: bool) -> tuple[str, ...] | None:
    """Names of the file's keypoints; merely assumed ones move no channel of a head that fits."""
    names = weights.keypoints
    if names is None or channels % len(names) or (weights.assumed and as_it_is):
        return None
    return names


def _same(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    return [*map(normal_name, theirs)] == [*map(normal_name, ours)]


def _misfit(
    path: Path, theirs: Sequence[str] | None, channels: int, ours: Sequence[str], wanted: int
) -> str:
    if theirs is None:
        return f'{path} predicts {channels} channels, but the dataset has {_list(ours)}'
    if len(theirs) != len(ours):
        return (
            f'{path} predicts {len(theirs)} keypoints ({", ".join(theirs)}), but the dataset has '
            f'{len(ours)} ({", ".join(ours)})'
        )
    if channels != wanted:
        return (
            f'{path} has {channels // len(theirs)} channels a keypoint, but the codec reads '
            f'{wanted // len(ours)}: was it trained with another codec?'
        )
    first = next(i for i in range(len(ours)) if not _same(theirs[i : i + 1], ours[i : i + 1]))
    return (
        f"{path}: its keypoint {first} is '{theirs[first]}', but the dataset's is "
        f"'{ours[first]}': {', '.join(theirs)} against {', '.join(ours)}"
    )


def _say(
    theirs: Sequence[str] | None,
    channels_there: int,
    ours: Sequence[str],
    channels: int,
    shared: Mapping[int, int],
) -> str:
    fresh = [name for i, name in enumerate(ours) if i not in shared]
    copied = [name for i, name in enumerate(ours) if i in shared]
    what = f'{len(theirs)} keypoints' if theirs else f'{channels_there} channels'
    text = f'head: rebuilt for {len(ours)} keypoints, the file has {what}'
    if theirs is None:
        text += ' of names unknown'
    elif channels_there != channels * len(theirs):
        text += f' with {channels_there // len(theirs)} channels each instead of {channels}'
    if copied:
        text += f'; {len(copied)} copied by name ({", ".join(copied)})'
    return text + (f'; {len(fresh)} new ({", ".join(fresh)})' if fresh else '')


def _list(names: Sequence[str]) -> str:
    return f'{len(names)} keypoints ({", ".join(names)})'
