"""What MMPose and this project's codecs are both asked, the same numbers from the same seeds."""

from typing import NamedTuple

import numpy as np

FILE = 'mmpose_codecs.npz'


class Setup(NamedTuple):
    """Sizes (width, height) in pixels; sigma and kernel in heatmap pixels."""

    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float
    kernel: int


SETUPS = {
    '256x192': Setup((192, 256), (48, 64), 2, 11),
    '384x288': Setup((288, 384), (72, 96), 3, 17),
    'uneven': Setup((100, 75), (33, 20), 1, 7),
}
CODECS = ('msra', 'dark', 'udp', 'udp_combined')
KINDS = ('clean', 'two', 'noisy', 'negative', 'border', 'weak', 'zero', 'below')
KINDS += ('loud', 'noise30', 'noise60', 'noise')
NOISE = {'noisy': 0.02, 'negative': 0.02, 'border': 0.02, 'weak': 0.02}  # of a map's maximum
NOISE |= {'loud': 0.3, 'noise30': 0.3, 'noise60': 0.6}
BATCH, K = 8, 6


def heatmaps(kind: str, setup: Setup, channels: int) -> np.ndarray:
    """(BATCH, K * channels, H, W) float32, as a network might predict them.

    clean: one blob, no two of the same height, width and tilt; two: and a lower one elsewhere;
    noisy: with noise of 2%; negative: the same on a background below 0; border: noisy blobs
    within four pixels of a border, inside or outside; weak: noisy blobs of 1% of the height;
    zero: nothing; below: nothing above 0; loud: noise30 of 100 times the height; noise30 and
    noise60: with noise of 30% and 60%; noise: nothing else.
    """
    width, height = setup.heatmap_size
    rng = np.random.RandomState(KINDS.index(kind))
    size = (BATCH, K * channels, 1, 1)
    rows, columns = np.arange(height)[:, None], np.arange(width)

    def blobs(x: np.ndarray, y: np.ndarray, peak: np.ndarray) -> np.ndarray:
        wide, tall = setup.sigma * rng.uniform(0.8, 1.6, (2, *size))
        tilt = rng.uniform(-0.5, 0.5, size)
        dx, dy = (columns - x) / wide, (rows - y) / tall
        return peak * np.exp(-(dx**2 + dy**2 + 2 * tilt * dx * dy) / 2)

    def inside() -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(0, width - 1, size), rng.uniform(0, height - 1, size)

    x, y = inside()
    if kind == 'border':
        near = rng.uniform(-3, 4, size)
        side = rng.randint(0, 4, size)
        x = np.select([side == 0, side == 1], [near, width - 1 - near], x)
        y = np.select([side == 2, side == 3], [near, height - 1 - near], y)
    maps = blobs(x, y, rng.uniform(0.1, 1.1, size))
    if kind == 'two':
        maps = maps + blobs(*inside(), rng.uniform(0.05, 0.5, size))
    if kind in NOISE:
        noise = rng.normal(0, NOISE[kind], maps.shape)
        maps = maps + maps.max((2, 3), keepdims=True) * noise
    if kind == 'noise':
        maps = rng.normal(0, 0.1, maps.shape)
    maps = maps * {'weak': 0.01, 'loud': 100, 'zero': 0}.get(kind, 1)
    maps = maps - 0.03 if kind == 'negative' else maps
    return (-0.01 - maps if kind == 'below' else maps).astype(np.float32)


def keypoints(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """(4, K, 2) in crop pixels, some of them outside, and (4, K) visibility, float32."""
    rng = np.random.RandomState(100)
    size = np.array(setup.input_size)
    points = rng.uniform(-0.05 * size, 1.05 * size, (4, K, 2))
    return points.astype(np.float32), (rng.uniform(size=(4, K)) < 0.8).astype(np.float32)


def boxes() -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Centre (2,), width and height (2,) of 3:4 boxes in image pixels, and rotations in degrees."""
    rng = np.random.RandomState(200)
    return [
        (rng.uniform(0, 600, 2), rng.uniform(20, 500) * np.array([0.75, 1]), rng.uniform(-180, 180))
        for _ in range(20)
    ]


def loss_input() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and target heatmaps (3, 3K, 9, 7) and weights (3, K), float32."""
    rng = np.random.RandomState(300)
    predicted, target = rng.normal(size=(2, 3, 3 * K, 9, 7)).astype(np.float32)
    target[:, ::3] = target[:, ::3] > 0
    return predicted, target, rng.choice([0, 0.5, 1], (3, K)).astype(np.float32)
