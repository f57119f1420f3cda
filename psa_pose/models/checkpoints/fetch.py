"""Where a config's `checkpoint` is: a file, an address, or one of torchvision's models."""

from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from psa_pose.errors import CheckpointError, nearest


def local_file(source: str | Path) -> Path:
    """The file that holds what `source` names, downloaded once to torch.hub's cache where needed.

    Args:
        source: a path, an `http(s)://` address, or `torchvision://resnet50`: the first weights
            that torchvision published for it; `torchvision://resnet50.IMAGENET1K_V2` for others.

    Raises:
        CheckpointError: unknown model or scheme, or the download failed.
    """
    scheme, separator, rest = str(source).partition('://')
    if not separator:
        return Path(source)
    if scheme == 'torchvision':
        address = _torchvision_address(rest)
        checksum = torch.hub.HASH_REGEX.search(address)  # names of other publishers may have none
        return download(address, str(source), checksum.group(1) if checksum else None)
    if scheme in ('http', 'https'):
        return download(str(source), str(source))
    raise CheckpointError(
        f"checkpoint '{source}': expected a file, torchvision://..., http:// or https://"
    )


def _torchvision_address(name: str) -> str:
    from torchvision.models import get_model_weights, list_models  # not every torchvision imports

    model, _, weights = name.partition('.')
    models = [m for m in list_models() if m.startswith('resnet')]
    if model not in models:
        raise CheckpointError(
            f"torchvision://{name}: no ResNet '{model}'; {nearest(model, models)}"
        )
    members = {member.name: member for member in get_model_weights(model)}
    weights = weights.upper() or next(iter(members))
    if weights not in members:
        raise CheckpointError(
            f"torchvision://{name}: no weights '{weights}'; {nearest(weights, members)}"
        )
    return members[weights].url


def download(address: str, source: str, checksum: str | None = None) -> Path:
    """The file of an address, fetched once to torch.hub's cache.

    Args:
        address: of the file.
        source: what the user asked for, for error messages.
        checksum: first digits of its SHA-256, which a fetched file must have.

    Raises:
        CheckpointError: the download failed; says where to put the file by hand.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(address).path).name)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(path), checksum, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, 'reason', None) or error
        raise CheckpointError(
            f"checkpoint '{source}' could not be fetched from {address}: {reason}; without a "
            f'network put the file at {path}'
        ) from None
    return path
