"""One person as a network sees it: crop, keypoints, heatmaps, PSA's gates; RGB uint8."""

from typing import NamedTuple

import cv2
import numpy as np
import torch

from psa_pose.codecs import HeatmapCodec
from psa_pose.models import TopdownPoseEstimator
from psa_pose.models.attention.gates import one_a_stage, record_gates
from psa_pose.structures import KeypointInfo, PoseBatch
from psa_pose.visualization.overlay import colored, overlay
from psa_pose.visualization.skeleton import draw_pose

HEIGHT = 256  # pixels that small crops are enlarged to, about
SCORE_THR = 0.2  # of keypoints that are drawn though nobody labelled them
_BARS, _FAINT = 36, (200, 200, 200)


class Cell(NamedTuple):
    """A picture on a contact sheet."""

    caption: str
    image: np.ndarray
    """(H, W, 3) uint8, RGB."""


class Zoom:
    """Enlarges crops of one size by a whole number.

    Args:
        input_size: (width, height) of the crops.
    """

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.factor = max(1, round(HEIGHT / input_size[1]))

    def image(self, crop: np.ndarray) -> np.ndarray:
        """A larger copy."""
        factor = self.factor
        return cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)

    def points(self, keypoints: np.ndarray) -> np.ndarray:
        """Where crop pixels are in it; pixel centres are integers on both sides."""
        return (keypoints + 0.5) * self.factor - 0.5

    def map(
        self, crop: np.ndarray, values: np.ndarray, stride: tuple[float, float], **options: float
    ) -> np.ndarray:
        """A map of the crop, `stride` crop pixels to a map pixel, over the larger copy."""
        larger = (stride[0] * self.factor, stride[1] * self.factor)
        first = float(self.points(np.zeros(1))[0])
        return overlay(self.image(crop), values, stride=larger, origin=first, **options)  # type: ignore[arg-type]


def pose(
    crop: np.ndarray, keypoints: np.ndarray, drawn: np.ndarray, info: KeypointInfo, zoom: Zoom
) -> np.ndarray:
    """A crop (H, W, 3), enlarged, with those keypoints (K, 2) that are `drawn` (K,)."""
    image = zoom.image(crop)
    seen = keypoints[drawn] if drawn.any() else keypoints
    size = float((seen.max(0) - seen.min(0)).max()) if drawn.any() else 0
    draw_pose(image, zoom.points(keypoints), drawn, info, zoom.factor * size)
    return image


def heatmap(crop: np.ndarray, maps: np.ndarray, codec: HeatmapCodec, zoom: Zoom) -> np.ndarray:
    """The greatest value of all keypoints' maps (N, h, w) at each place, over the crop."""
    return zoom.map(crop, maps.max(0), codec.stride, low=0)


def gate(crop: np.ndarray, channel: np.ndarray, spatial: np.ndarray, zoom: Zoom) -> np.ndarray:
    """A spatial gate (h, w) over the crop; under it the channel gate (C,), a bar a channel, 0 to 1.

    The map goes from the gate's smallest value (dark) to its greatest. Bars reach to 2 where a
    gate can, see `Gates`.
    """
    stride = crop.shape[1] / spatial.shape[1], crop.shape[0] / spatial.shape[0]
    shown = zoom.map(crop, spatial, stride, fade=False, alpha=0.7)
    width, top = shown.shape[1], max(1.0, float(np.ceil(channel.max() - 1e-6)))
    values = channel[np.arange(width) * len(channel) // width] / top
    rows = 1 - (np.arange(_BARS) + 0.5)[:, None] / _BARS
    color = colored((values[None] * np.ones((_BARS, 1))).astype(np.float32))
    bars = np.where((rows <= values)[..., None], color, 255).astype(np.uint8)
    bars[_BARS // 2, (values < 0.5)] = _FAINT  # half-way
    bars[[0, -1]] = _FAINT
    return np.vstack([shown, np.full((3, width, 3), 255, np.uint8), bars])


@torch.no_grad()
def model_cells(
    estimator: TopdownPoseEstimator, batch: PoseBatch, zoom: Zoom, each_keypoint: bool = False
) -> list[list[Cell]]:
    """What a model makes of persons: pose, heatmaps, and PSA's gates, one block a stage.

    Args:
        estimator: in evaluation mode; nothing of it is changed.
        batch: on the model's device.
        zoom: of the crops.
        each_keypoint: a heatmap for each keypoint as well.

    Returns:
        For each person its cells.
    """
    codec, info = estimator.codec, estimator.info
    with record_gates(estimator) as recorded:
        heatmaps = estimator.heatmaps(batch)
    with torch.autocast(heatmaps.device.type, enabled=False):  # as `predict` decodes
        points, scores = (x.cpu().numpy() for x in codec.decode(heatmaps))
    maps = heatmaps[:, :: codec.channels_per_keypoint].cpu().numpy()
    crops, labelled = batch.crop.cpu().numpy(), batch.visible.cpu().numpy() > 0
    stages = {  # with a flip test the mirrored crops follow
        stage: [x[: len(crops)].cpu().numpy() for x in gates]
        for stage, gates in one_a_stage(recorded).items()
    }
    people = []
    for i, crop in enumerate(crops):
        drawn = labelled[i] | (scores[i] > SCORE_THR)
        mean = float(scores[i, drawn].mean()) if drawn.any() else 0.0
        cells = [
            Cell(f'prediction, mean score {mean:.2f}', pose(crop, points[i], drawn, info, zoom)),
            Cell(f'heatmaps, peak {maps[i].max():.2f}', heatmap(crop, maps[i], codec, zoom)),
        ]
        for stage, (channel, spatial) in stages.items():
            where = f'{spatial[i].min():.2f} to {spatial[i].max():.2f}'
            text = f'{stage}: where {where}, what of {channel.shape[1]} channels'
            cells.append(Cell(text, gate(crop, channel[i], spatial[i], zoom)))
        if each_keypoint:
            for name, one in zip(info.names, maps[i], strict=True):
                image = heatmap(crop, one[None], codec, zoom)
                cells.append(Cell(f'{name}, peak {one.max():.2f}', image))
        people.append(cells)
    return people
