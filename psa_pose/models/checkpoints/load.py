"""From a file into a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from psa_pose.errors import CheckpointError
from psa_pose.models.backbones.blocks import attention_text
from psa_pose.models.checkpoints.fetch import local_file
from psa_pose.models.checkpoints.fit import COUNTER, Fit, fit
from psa_pose.models.checkpoints.formats import Weights, recognise
from psa_pose.models.checkpoints.keypoints import fit_keypoints
from psa_pose.models.checkpoints.read import read_checkpoint
from psa_pose.models.checkpoints.report import LoadReport

if TYPE_CHECKING:
    from psa_pose.models.estimator import TopdownPoseEstimator


def load_checkpoint(
    model: 'TopdownPoseEstimator', source: str | Path, strict: bool = False
) -> LoadReport:
    """Load weights into an estimator, by name.

    Args:
        model: whose parameters are overwritten.
        source: a checkpoint of this project, of MMPose, of the original HRNet, SimpleBaseline and
            PSA repositories, of torchvision or timm, as `torch.save` or safetensors wrote it; or
            see `local_file`.
        strict: refuse missing and unexpected names, and a head of other keypoints, which is
            otherwise rebuilt with the channels of the keypoints that both have by name.

    Raises:
        CheckpointError: the file cannot be read safely, or fits too little.
    """
    path = local_file(source)
    return _load(model, read_checkpoint(path), path, strict)


def load_progress(model: 'TopdownPoseEstimator', path: Path) -> dict[str, Any]:
    """A run's checkpoint, once its weights have been found to fit and were loaded.

    Raises:
        CheckpointError: the file cannot be read, does not fit, or holds weights alone.
    """
    checkpoint = read_checkpoint(path)
    missing = {'state_dict', 'global_step', 'meta', 'optimizer_states'} - set(checkpoint)
    if missing:
        raise CheckpointError(f'{path} is no checkpoint of a run: it lacks {sorted(missing)}')
    _load(model, checkpoint, path, strict=True)
    return checkpoint


def load_backbone(backbone: nn.Module, source: str | Path) -> LoadReport:
    """Load weights into a backbone alone; a file of a whole network gives those of its backbone.

    Args:
        backbone: whose parameters are overwritten.
        source: see `load_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read safely, or fits too little.
    """
    path = local_file(source)
    weights = recognise(read_checkpoint(path), path)
    model = nn.ModuleDict({'backbone': backbone})
    fitted = fit(weights, model.state_dict(), {}, path)
    model.load_state_dict(fitted.take, strict=False)
    return _report(model, weights, fitted, path, [])


def _load(
    model: 'TopdownPoseEstimator', checkpoint: Mapping[str, Any], path: Path, strict: bool
) -> LoadReport:
    weights, wanted = recognise(checkpoint, path), model.state_dict()
    head, text = fit_keypoints(weights, wanted, model.info.names, path, strict)
    fitted = fit(weights, wanted, head, path)
    notes = [note for note in (text, _other_attention(model, weights, path, strict)) if note]
    report = _report(model, weights, fitted, path, notes)
    if strict and (fitted.missing or fitted.unexpected):
        raise CheckpointError(f"{path} does not fit the config's model.\n{report}")
    model.load_state_dict(fitted.take, strict=False)
    return report


def _other_attention(
    model: 'TopdownPoseEstimator', weights: Weights, path: Path, strict: bool
) -> str:
    """Layouts of PSA have the same parameters: a wrong one would load, and give wrong numbers."""
    theirs, ours = weights.meta.get('attention'), attention_text(model.backbone)
    if not theirs or not ours or theirs == ours:
        return ''
    if strict:
        raise CheckpointError(
            f"{path} was trained with {theirs}, but the config's model has {ours}: the parameters "
            'have the same names and mean something else; set model.backbone.attention to it'
        )
    return f'attention: trained as {theirs}, goes on as {ours}'


def _report(
    model: nn.Module, weights: Weights, fitted: Fit, path: Path, notes: list[str]
) -> LoadReport:
    source = weights.source
    if weights.assumed:
        notes.append(f'assumed: {weights.assumed}')
    if blocks := fitted.new_blocks:
        harmless = all(getattr(model.get_submodule(b), 'identity_init', False) for b in blocks)
        how = 'identity' if harmless else 'random: they change every heatmap until they have learnt'
        notes.append(f'attention: {len(blocks)} blocks new, {how}')
    if fitted.warning:
        notes.append(fitted.warning)
    sizes = {name: value.numel() for name, value in model.state_dict().items()}
    loaded = [name for name in fitted.take if not name.endswith(COUNTER)]
    return LoadReport(
        path,
        weights.format,
        loaded=loaded,
        renamed={n: source[n] for n in loaded if source[n] != n},
        reshaped=fitted.reshaped,
        missing=fitted.missing,
        unexpected=[source[name] for name in fitted.unexpected],
        notes=notes,
        sizes={**{source[n]: v.numel() for n, v in weights.state.items()}, **sizes},
    )
