"""What is exported: a plain module, from pixels to heatmaps or to keypoints."""

import logging
import traceback
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from psa_pose.codecs import HeatmapCodec
from psa_pose.errors import ExportError
from psa_pose.models import TopdownPoseEstimator


class Decode(nn.Module):
    """A codec's `decode` as a module, so that a graph's values carry its name."""

    def __init__(self, codec: HeatmapCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop pixels and scores (B, K)."""
        return self.codec.decode(heatmaps)


class PoseGraph(nn.Module):
    """An estimator without what only training needs; its modules keep their names.

    Args:
        estimator: is put into evaluation mode; shares its weights with this.
        normalise: take uint8 crops (B, H, W, 3), RGB, instead of normalised images (B, 3, H, W).
        decode: give keypoints (B, K, 2) in crop pixels and scores (B, K) instead of heatmaps
            (B, channels, H, W).
        flip_test: average with the mirrored crop's heatmaps, in twice the time.
    """

    def __init__(
        self,
        estimator: TopdownPoseEstimator,
        normalise: bool = True,
        decode: bool = True,
        flip_test: bool = False,
    ) -> None:
        super().__init__()
        estimator.eval().requires_grad_(False)
        self.data_preprocessor = estimator.data_preprocessor if normalise else nn.Identity()
        self.backbone = estimator.backbone
        self.head = estimator.head
        self.decode = Decode(estimator.codec) if decode else None
        self.normalise, self.flip_test = normalise, flip_test
        self.estimator = (estimator,)  # in a tuple, as it is no module of this one
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Heatmaps, or keypoints and scores, of images as the graph takes them."""
        heatmaps = self.heatmaps(images)
        return (heatmaps,) if self.decode is None else self.decode(heatmaps)

    def heatmaps(self, images: Tensor) -> Tensor:
        """(B, channels, H / 4, W / 4) of images as `forward` takes them."""
        inputs = self.data_preprocessor(images)
        if not self.flip_test:
            return self.head(self.backbone(inputs))
        both = self.head(self.backbone(torch.cat([inputs, inputs.flip(3)])))
        return self.estimator[0].mean_of_both(*both.unflatten(0, (2, -1)))

    def inputs(self, crops: Tensor) -> Tensor:
        """What `forward` takes, of uint8 crops (B, H, W, 3)."""
        return crops if self.normalise else self.estimator[0].data_preprocessor(crops).contiguous()

    @property
    def input_name(self) -> str:
        """What the one input is called in files."""
        return 'crops' if self.normalise else 'images'

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs are called in files."""
        return ('heatmaps',) if self.decode is None else ('keypoints', 'scores')


def trace(graph: PoseGraph, crops: Tensor) -> ExportedProgram:
    """The graph as PyTorch's own operations, for any number of crops.

    Args:
        graph: what to record.
        crops: (B, H, W, 3) uint8, at least two; their size becomes the graph's.

    Raises:
        ExportError: something in it cannot be recorded; says what.
    """
    images = graph.inputs(crops)
    program, error = _recorded(graph, images)
    if program is not None:
        return program
    if graph.decode is not None and _recorded(graph.decode, graph.heatmaps(images))[1]:
        raise ExportError(
            f'codec {type(graph.decode.codec).__name__}: its decode cannot be put into a graph '
            f'({_line(error)}); export heatmaps (--no-decode) and decode them outside'
        ) from error
    raise ExportError(
        f'the model cannot be recorded as a graph ({_line(error)}); a forward must not look at '
        'values, as .item() and an if on a tensor do, and must take any number of images'
    ) from error


def _recorded(
    module: nn.Module, images: Tensor
) -> tuple[ExportedProgram, None] | tuple[None, Exception]:
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)  # pages about what the error says in a line
    try:
        with torch.no_grad(), redirect_stderr(StringIO()):
            batch = ({0: Dim('batch', min=1)},)
            program = torch.export.export(module, (images,), dynamic_shapes=batch, strict=False)
        return program, None
    except Exception as error:  # of any kind: blocks and codecs may be a user's own
        return None, error
    finally:
        logging.disable(silenced)


def _line(error: Exception | None) -> str:
    """What it says, and where outside of PyTorch it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    library = str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    where = [f'{f.filename}:{f.lineno}' for f in frames if not f.filename.startswith(library)]
    return f'{where[-1] if where else ""} {type(error).__name__}: {" ".join(lines[:2])}'
