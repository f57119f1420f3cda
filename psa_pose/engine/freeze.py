"""Parts of a model that stand still: `freeze = ['backbone.conv1', 'backbone.layer1']`.

It stands at the top of a config, beside `load_from`: what is frozen is a matter of one training
run, while `model` goes with the weights to wherever they are tested, published and trained on.
"""

import warnings
from collections.abc import Sequence

from mmengine.config import Config
from torch import nn

from psa_pose.errors import ConfigError, nearest
from psa_pose.registry import refuse

_MMPOSE = ('frozen_stages', 'norm_eval')


def frozen_names(cfg: Config) -> list[str]:
    """What a config's `freeze` names.

    Raises:
        ConfigError: it is no list of names, or stands where MMPose has it.
    """
    backbone = cfg.get('model', {}).get('backbone', {})
    for word in _MMPOSE:
        if word in backbone:
            refuse(
                ConfigError(
                    f'model.backbone.{word}: say which modules stand still, '
                    "freeze=['backbone.conv1', 'backbone.bn1', ...], at the top of the config"
                )
            )
    names = cfg.get('freeze') or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f'freeze: expected a list of names of modules, got {names!r}')
    return list(names)


def freeze(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Make modules stand still: parameters get no gradient.

    Args:
        model: the estimator.
        names: of modules or parameters, such as 'backbone.stage2'; all that is inside is meant.

    Returns:
        The frozen modules, which are to stay in evaluation mode, so that the statistics of
        BatchNorm stand still as well (see `PoseModule.train`).

    Raises:
        ConfigError: a name that the model lacks, or nothing would be left to train.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    frozen = []
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(False)
        elif name in modules and name:
            frozen.append(modules[name].requires_grad_(False))
        else:
            text = f"freeze: no module or parameter '{name}'; {nearest_part(name, model)}"
            refuse(ConfigError(text))
    if not any(p.requires_grad for p in parameters.values()):
        raise ConfigError(f'freeze: {list(names)} is everything; nothing would be left to train')
    for module in frozen:
        module.eval()
    if frozen:  # Lightning says that it is unexpected
        warnings.filterwarnings('ignore', r'Found \d+ module\(s\) in eval mode')
    return frozen


def frozen_text(model: nn.Module, names: Sequence[str]) -> str:
    """What stands still, with counts; '' where all of a model trains."""
    still = [p.numel() for p in model.parameters() if not p.requires_grad]
    if not still:
        return ''
    whole = sum(p.numel() for p in model.parameters())
    norms = {
        id(inside)
        for name, module in model.named_modules()
        for inside in module.modules()
        if name in names and isinstance(inside, nn.modules.batchnorm._NormBase)
    }
    return (
        f'{", ".join(names)}: {len(still)} tensors, {sum(still):,} of {whole:,} values, and the '
        f'statistics of {len(norms)} BatchNorms'
    )


def nearest_part(name: str, model: nn.Module) -> str:
    """The module or parameter most like `name`; else the model's parts."""
    names = {n for n, _ in model.named_modules() if n} | {n for n, _ in model.named_parameters()}
    words = {word for n in names for word in n.split('.') if not word.isdigit()}
    hint = nearest(name, names if '.' in name else words)
    return hint if hint.startswith('did') else nearest(name, {n for n in names if n.count('.') < 2})
