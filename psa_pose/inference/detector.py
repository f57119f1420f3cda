"""Person boxes of torchvision's detectors; the one place of inference that imports torchvision."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from psa_pose.errors import CheckpointError, ConfigError, nearest
from psa_pose.models.checkpoints.fetch import download
from psa_pose.models.checkpoints.read import read_checkpoint

DETECTOR = 'fasterrcnn_mobilenet_v3_large_320_fpn'
"""22.8 box AP on COCO and the fastest; `fasterrcnn_resnet50_fpn_v2` has 46.7 and takes far longer
without a GPU."""


class PersonDetector:
    """Finds persons in an image; to be called with it.

    Args:
        name: of a detection model of torchvision that was trained on COCO.
        weights: a file of its weights; None downloads torchvision's, once, to torch.hub's cache.
        device: where it runs.

    Attributes:
        text: says whose boxes these are.

    Raises:
        ConfigError: no such model.
        CheckpointError: weights that cannot be had, or do not fit; says what to bring.
    """

    def __init__(
        self, name: str = DETECTOR, weights: Path | None = None, device: str | torch.device = 'cpu'
    ) -> None:
        from torchvision.models import detection as family
        from torchvision.models import get_model, get_model_weights, list_models

        models = list_models(module=family)
        if name not in models:
            raise ConfigError(f"detector: torchvision has no '{name}'; {nearest(name, models)}")
        published = get_model_weights(name).DEFAULT
        categories = published.meta['categories']
        if 'person' not in categories:
            raise ConfigError(f"detector: torchvision's '{name}' does not know persons")
        self._person = categories.index('person')
        path = weights or _fetched(name, published)
        model = get_model(name, weights=None, weights_backbone=None, num_classes=len(categories))
        try:
            model.load_state_dict(_state(path))
        except RuntimeError as error:
            raise CheckpointError(
                f"detector weights {path} are not torchvision's {name}: "
                f'{_short(error)}; expected is what {published.url} holds'
            ) from None
        self.model = model.eval().to(device)
        self.device = torch.device(device)
        self.text = f"torchvision's {name}, weights {path.name}"

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Persons of an image, the surest first.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            (N, 5) float32, x1, y1, x2, y2 in pixels and the score.
        """
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1).float() / 255
        (found,) = self.model([pixels])
        rows = torch.cat([found['boxes'], found['scores'][:, None]], 1)
        persons = rows[found['labels'] == self._person].float().cpu().numpy()
        return persons[
            (persons[:, 2:4] > persons[:, :2]).all(1)
        ]  # they may shrink to nothing at an edge


def _fetched(name: str, published: Any) -> Path:
    cached = Path(torch.hub.get_dir(), 'checkpoints', Path(published.url).name)
    checksum = torch.hub.HASH_REGEX.search(published.url)
    assert checksum is not None, 'the names of torchvision say their checksums'
    if not cached.is_file():
        size = published.meta.get('_file_size', 0)
        print(
            f'download  weights of the detector {name}, published by torchvision: {published.url} '
            f'({size:.0f} MB, SHA-256 {checksum[1]}...) to {cached}',
            flush=True,
        )
    try:
        return download(published.url, f'detector {name}', checksum[1])
    except CheckpointError as error:
        raise CheckpointError(
            f'{error}, or name it (detector_weights, --detector-weights)'
        ) from None


def _state(path: Path) -> dict[str, torch.Tensor]:
    content = read_checkpoint(path)
    state = content.get('state_dict', content)
    return {str(k): v for k, v in state.items()} if isinstance(state, dict) else {}


def _short(error: RuntimeError) -> str:
    """Of PyTorch's pages about keys."""
    lines = [line.strip() for line in str(error).splitlines()[1:3]]
    return ' '.join(lines)[:200] or str(error)[:200]
