"""Whose file is it? Formats by their keys, and their names in the estimator's words."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psa_pose.errors import CheckpointError
from psa_pose.structures import COCO_KEYPOINTS, MPII_KEYPOINTS

CARD = 'psa_pose'
"""Key of a published model's card in `meta`; in safetensors its value is JSON."""

# Where files keep their weights, in this order, or at the top. This project's runs and MMEngine's
# put averaged weights (EMA) into 'state_dict' itself, so that everybody loads those.
_PLACES = ('state_dict', 'model', 'model_state_dict', 'state_dict_ema')
_WRAPPERS = ('module.', '_orig_mod.')  # DistributedDataParallel's, torch.compile's


@dataclass(frozen=True)
class Weights:
    """A file's weights.

    Attributes:
        format: whose, for people.
        state: by the estimator's names where they have one, else by the file's.
        source: the file's name of each.
        keypoints: names of the head's keypoints, in its order; None where nothing says them.
        assumed: why `keypoints` is only believed, or ''.
        meta: what the file says of itself.
    """

    format: str
    state: dict[str, Tensor]
    source: dict[str, str]
    keypoints: tuple[str, ...] | None = None
    assumed: str = ''
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Format:
    name: str
    matches: Callable[[Collection[str], Mapping[str, Any], Mapping[str, Any]], bool]
    rename: Callable[[str], str]
    field_order: bool = False  # of the head, where 17 keypoints are COCO's and 16 are MPII's


def recognise(checkpoint: Mapping[str, Any], path: Path) -> Weights:
    """Find the weights in a file's content, and give them the estimator's names.

    Raises:
        CheckpointError: there are none, two of them get one name, or one is no finite numbers.
    """
    raw = _find(checkpoint, path)
    meta = _meta(checkpoint)
    unwrapped = {_unwrap(name): name for name in raw}
    found = next(f for f in _FORMATS if f.matches(unwrapped, meta, checkpoint))
    source = {found.rename(name): original for name, original in unwrapped.items()}
    if len(source) < len(raw):
        raise CheckpointError(f'{path} ({found.name}): several of its tensors have one name')
    state = {name: raw[original] for name, original in source.items()}
    for name, value in state.items():
        _check_values(value, f'{path}: {source[name]}')
    keypoints, assumed = _keypoints(meta), ''
    if keypoints is None and found.field_order:
        keypoints, assumed = _by_number(state.get('head.final_layer.weight'))
    return Weights(found.name, state, source, keypoints, assumed, meta)


def _find(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    for place in (*(checkpoint.get(key) for key in _PLACES), checkpoint):
        if isinstance(place, Mapping):
            tensors = {str(key): value for key, value in place.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
    raise CheckpointError(
        f'{path} holds no weights: expected tensors by name, or a {" or ".join(_PLACES[:2])} of '
        f'them; it has {sorted(map(str, checkpoint))[:8]}'
    )


def _check_values(value: Tensor, where: str) -> None:
    if value.layout is not torch.strided or value.is_meta or value.is_quantized:
        raise CheckpointError(f'{where} is no dense tensor of plain numbers')
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(f'{where} claims {value.numel():,} values, more than the file has')
    if value.is_floating_point() and not value.isfinite().all():
        raise CheckpointError(f'{where} holds values that are not finite')


def _meta(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The file's `meta`, with the card's entries at its top."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return {}
    card = meta.get(CARD)
    if isinstance(card, str):
        try:
            card = json.loads(card)
        except ValueError:
            card = None
    return {**meta, **card} if isinstance(card, Mapping) else dict(meta)


def _unwrap(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition('.')[2]
    return name.replace('._orig_mod.', '.')  # a compiled part of an uncompiled model


def _bare(name: str) -> str:
    """Names of a network whose head stands beside its trunk; an ImageNet classifier keeps its."""
    if re.match(r'deconv_layers\.|final_layer\.(weight|bias)$', name):
        return f'head.{name}'
    if re.match(r'fc\.|classifier\.|incre_modules\.|downsamp_modules\.|final_layer\.|head\.', name):
        return name
    return f'backbone.{_attention(name)}'


def _attention(name: str) -> str:
    """The PSA authors' name of the block, which stands where ours does."""
    return name.replace('.deattn.', '.attention.')


def _old_mmpose(name: str) -> str:
    return re.sub(r'^keypoint_head\.', 'head.', name)


def _any(*parts: str) -> Callable[..., bool]:
    """Whether some name has one of the parts; a dot before it stands for the name's beginning."""
    return lambda names, meta, _: any(part in f'.{name}' for name in names for part in parts)


def _all(*parts: str) -> Callable[..., bool]:
    return lambda *given: all(_any(part)(*given) for part in parts)


def _says(*keys: str) -> Callable[..., bool]:
    """A file of an estimator that says one of these of itself."""
    return lambda names, meta, top: (
        any(n.startswith(('backbone.', 'head.')) for n in names)
        and any(k in meta or k in top for k in keys)
    )


# The first that matches.
_FORMATS = (
    _Format('MMPose 0.x', _any('.keypoint_head.'), _old_mmpose, field_order=True),
    _Format('PSA-Pose, published', _says(CARD), str),
    _Format('PSA-Pose, averaged weights', _says('current_model_state'), str),
    _Format('PSA-Pose', _says('keypoint_names'), str),
    _Format('MMPose', _says('dataset_meta', 'mmpose_version', 'mmengine_version'), str),
    _Format("PSA authors' HRNet", _all('.backbone.', '.deattn.'), _attention),
    _Format("PSA authors' HRNet", _any('.deattn.'), _bare, field_order=True),
    _Format('an estimator without a word about itself', _any('.backbone.'), str),
    _Format('a head without a backbone', _any('.head.final_layer.'), str),
    _Format(
        "SimpleBaseline's repository",
        _all('.layer4.', '.deconv_layers.', '.final_layer.weight'),
        _bare,
        field_order=True,
    ),
    _Format("HRNet's repository", _all('.stage4.', '.final_layer.weight'), _bare, field_order=True),
    _Format("MMPose's HRNet of ImageNet", _all('.stage4.', '.head.0.', '.fc.weight'), _bare),
    _Format(
        "HRNet of ImageNet (its repository's or timm's)",
        _all('.stage4.', '.incre_modules.'),
        _bare,
    ),
    _Format("ResNet of ImageNet (torchvision's or timm's)", _all('.layer4.', '.fc.weight'), _bare),
    _Format('a bare HRNet', _any('.stage4.'), _bare),
    _Format('a bare ResNet', _any('.layer4.'), _bare),
    _Format('names of no known format', _any(''), _bare),
)


def _keypoints(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names as this project's files say them, or MMPose's."""
    names = meta.get('keypoint_names')
    dataset = meta.get('dataset_meta')
    by_id = dataset.get('keypoint_id2name') if isinstance(dataset, Mapping) else None
    if isinstance(by_id, Mapping):
        names = [by_id[i] for i in sorted(by_id)]
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        return None
    return tuple(names) or None


def _by_number(weight: Tensor | None) -> tuple[tuple[str, ...] | None, str]:
    for info, name in ((COCO_KEYPOINTS, 'COCO'), (MPII_KEYPOINTS, 'MPII')):
        k = info.num_keypoints
        if weight is not None and weight.dim() == 4 and len(weight) in (k, 3 * k):
            return info.names, f"that its {k} keypoints are {name}'s, in {name}'s order"
    return None, ''
