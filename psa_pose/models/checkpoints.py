"""Loading weights, with a report of what went where."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psa_pose.errors import CheckpointError
from psa_pose.models.estimator import TopdownPoseEstimator


@dataclass
class LoadReport:
    """Names of the model's and the file's parameters, by what became of them."""

    path: Path
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f'{len(self.loaded)} loaded']
        for label, names in (('missing', self.missing), ('unexpected', self.unexpected)):
            if names:
                parts.append(f'{len(names)} {label} ({_some(names)})')
        return f'weights   {self.path}: {", ".join(parts)}'


def load_checkpoint(
    model: TopdownPoseEstimator, path: str | Path, strict: bool = False
) -> LoadReport:
    """Load a checkpoint's weights into an estimator, by name.

    Args:
        model: whose parameters are overwritten.
        path: a checkpoint of this project, or any file of `torch.save` with a state dict whose
            names are the estimator's (`backbone.`, `head.`), a bare backbone's (torchvision's
            ResNet, HRNet's ImageNet weights) or those of the original pose repositories.
        strict: refuse missing and unexpected names.

    Raises:
        CheckpointError: the file cannot be read, is of another K, or fits too little.
    """
    path = Path(path)
    return _load(model, _read(path), path, strict)


def load_progress(model: TopdownPoseEstimator, path: Path) -> dict[str, Any]:
    """A run's checkpoint, once its weights have been found to fit and were loaded.

    Raises:
        CheckpointError: the file cannot be read, does not fit, or holds weights alone.
    """
    checkpoint = _read(path)
    missing = {'state_dict', 'global_step', 'meta', 'optimizer_states'} - set(checkpoint)
    if missing:
        raise CheckpointError(f'{path} is no checkpoint of a run: it lacks {sorted(missing)}')
    _load(model, checkpoint, path, strict=True)
    return checkpoint


def _load(
    model: TopdownPoseEstimator, checkpoint: dict[str, Any], path: Path, strict: bool
) -> LoadReport:
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: its 'state_dict' is a {type(state).__name__}")
    state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    wanted = model.state_dict()
    state = _rename(state, wanted)
    _check_keypoints(model, checkpoint, state, path)
    misfits = [k for k in state if k in wanted and state[k].shape != wanted[k].shape]
    if misfits:
        name = misfits[0]
        raise CheckpointError(
            f'{path}: {len(misfits)} parameters have another shape, first {name}: '
            f'{tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the model; '
            'is the config the one it was trained with?'
        )
    report = LoadReport(
        path,
        loaded=[k for k in wanted if k in state],
        missing=[k for k in wanted if k not in state],
        unexpected=[k for k in state if k not in wanted],
    )
    if strict and (report.missing or report.unexpected):
        raise CheckpointError(f"{path} does not fit the config's model. {report}")
    backbone = [k for k in wanted if k.startswith('backbone.')]
    matched = sum(k in state for k in backbone)
    if 2 * matched < len(backbone):
        raise CheckpointError(
            f'{path}: only {matched} of {len(backbone)} backbone parameters are in it '
            f'(looked for {_some(backbone)}; it has {_some(list(state))}); '
            'is it of another architecture?'
        )
    model.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    return report


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise CheckpointError(f'cannot read checkpoint {path}: {error.strerror}') from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'{path} is not a readable checkpoint: {_first_line(error)}; files that hold more than '
            "tensors and plain values are not run: keep its 'state_dict' alone, with "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW), if you trust it"
        ) from error
    except Exception as error:  # torch.load raises whatever a broken file makes it raise
        raise CheckpointError(
            f'{path} is not a readable checkpoint: {_first_line(error)}'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f'{path} holds a {type(checkpoint).__name__}, not a state dict')
    return checkpoint


def _first_line(error: Exception) -> str:
    """Of the message, without the advice and the colours that torch adds."""
    refused = re.search(r'Unsupported (?:global|class|operand)[^\n]*', str(error))
    text = refused.group() if refused else (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r'\x1b\[[0-9;]*m', '', text).strip()


def _rename(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put bare names of published weights under the estimator's `backbone.` and `head.`."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix('module.')
        for candidate in (key, f'backbone.{key}', f'head.{key}'):
            if candidate in wanted:
                key = candidate
                break
        renamed[key] = value
    return renamed


def _check_keypoints(
    model: TopdownPoseEstimator,
    checkpoint: Mapping[str, Any],
    state: Mapping[str, Tensor],
    path: Path,
) -> None:
    weight = state.get('head.final_layer.weight')
    k = model.info.num_keypoints
    if weight is None or len(weight) == k:
        return
    names = checkpoint.get('meta', {}).get('keypoint_names')
    theirs = f' ({", ".join(names)})' if names else ''
    raise CheckpointError(
        f'{path} predicts {len(weight)} keypoints{theirs}, but the dataset has {k} '
        f'({", ".join(model.info.names)})'
    )


def _some(names: list[str], limit: int = 3) -> str:
    return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')
