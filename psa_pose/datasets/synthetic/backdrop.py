"""Scenery behind the people, and what a camera does to the picture."""

import cv2
import numpy as np

from psa_pose.datasets.synthetic.wardrobe import Colour, blend, cloth_colour


def paint_backdrop(rng: np.random.Generator, width: int, height: int, horizon: float) -> np.ndarray:
    """A BGR image of a wall or sky over a floor from row `horizon` on, with things about."""
    image = np.concatenate([
        _gradient(rng, width, int(horizon)),
        _gradient(rng, width, height - int(horizon)),
    ])  # fmt: skip
    things = (_building, _tree, _frame, _blob, _pole)
    for _ in range(rng.integers(2, 9)):
        things[rng.integers(len(things))](rng, image, horizon)
    if rng.random() < 0.5:
        _floor_lines(rng, image, horizon)
    return _mottle(rng, image)


def develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Contrast, brightness, softness and grain of a random camera."""
    contrast = rng.uniform(0.8, 1.15)
    brightness = 128 * (1 - contrast) + rng.uniform(-15, 20)
    image = cv2.convertScaleAbs(image, alpha=contrast, beta=brightness)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
    amplitude = int(rng.integers(0, 7))
    return _add_noise(image, rng.integers(0, 2 * amplitude + 1, image.shape[:2], np.uint8))


def cast_shadow(image: np.ndarray, centre: tuple[float, float], radius: float) -> None:
    """Darkens an ellipse on the ground around `centre` (x, y); lengths in pixels."""
    x, y = (round(c) for c in centre)
    reach, depth = round(radius), max(round(radius / 4), 1)
    left, top = max(x - reach, 0), max(y - depth, 0)
    region = image[top : y + depth + 1, left : x + reach + 1]
    if region.size:
        darker = cv2.convertScaleAbs(region, alpha=0.6)
        ellipse = np.zeros(region.shape[:2], np.uint8)
        cv2.ellipse(ellipse, (x - left, y - top), (reach, depth), 0, 0, 360, 255, -1)
        cv2.copyTo(darker, ellipse, region)


def _muted(rng: np.random.Generator) -> Colour:
    """A colour that stands back behind the clothes' ones."""
    return blend(cloth_colour(rng), (rng.uniform(60, 220),) * 3, rng.uniform(0.5, 0.9))


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A vertical gradient, (height, width, 3)."""
    first = _muted(rng)
    column = np.array([[first], [blend(first, _muted(rng), 0.6)]], np.float32)
    return cv2.resize(column, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _mottle(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Adds value noise of two scales."""
    height, width = image.shape[:2]
    amplitude = rng.integers(4, 20)
    noise = np.zeros((height, width), np.uint8)
    for cells in (6, 40):
        coarse = rng.integers(0, amplitude + 1, (cells, cells * 4 // 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        noise += np.asarray(smooth, np.uint8)
    return _add_noise(image, noise)


def _add_noise(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Adds noise (height, width) about its mean to every channel alike."""
    return cv2.addWeighted(image, 1, cv2.merge([noise] * 3), 1, -float(noise.mean()))


def _building(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """A block standing on the horizon: a house with windows, or a cupboard with shelves."""
    height, width = image.shape[:2]
    x, w = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(0.1, 0.4) * width)
    base = int(horizon + rng.uniform(0, 0.12) * height)
    tall = int(rng.uniform(0.1, 0.5) * height)
    top = base - tall
    cv2.rectangle(image, (x, top), (x + w, base), _muted(rng), -1)
    rows, columns = rng.integers(1, 6, 2)
    pane = _muted(rng)
    for row in range(rows):
        for column in range(columns):
            left, upper = x + w * (column + 0.25) / columns, top + tall * (row + 0.25) / rows
            right, lower = left + 0.5 * w / columns, upper + 0.5 * tall / rows
            cv2.rectangle(image, (int(left), int(upper)), (int(right), int(lower)), pane, -1)


def _tree(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """A trunk with a round crown."""
    height, width = image.shape[:2]
    x, base = int(rng.uniform(0, 1) * width), int(horizon + rng.uniform(0, 0.2) * height)
    tall, thick = int(rng.uniform(0.2, 0.5) * height), int(rng.uniform(2, 7))
    cv2.rectangle(image, (x - thick, base - tall), (x + thick, base), _muted(rng), -1)
    crown = (int(tall * rng.uniform(0.25, 0.5)), int(tall * rng.uniform(0.25, 0.5)))
    green = blend((60, 130, 80), _muted(rng), rng.uniform(0.1, 0.7))
    cv2.ellipse(image, (x, base - tall), crown, 0, 0, 360, green, -1, cv2.LINE_AA)


def _frame(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """A picture, window or sign above the horizon."""
    height, width = image.shape[:2]
    x, y = int(rng.uniform(0, 0.9) * width), int(rng.uniform(0, 0.8) * horizon)
    w, h = (rng.uniform(0.05, 0.2, 2) * (width, height)).astype(int)
    cv2.rectangle(image, (x, y), (x + w, y + h), _muted(rng), -1)
    cv2.rectangle(image, (x, y), (x + w, y + h), _muted(rng), int(rng.integers(1, 5)))


def _blob(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """A bush, stone or ball on the ground."""
    height, width = image.shape[:2]
    centre = (int(rng.uniform(0, width)), int(rng.uniform(horizon, height)))
    radii = (int(rng.uniform(4, 45)), int(rng.uniform(4, 20)))
    cv2.ellipse(image, centre, radii, 0, 0, 360, _muted(rng), -1, cv2.LINE_AA)


def _pole(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """A straight thing as thick as a limb, which is not one."""
    height, width = image.shape[:2]
    x, base = rng.uniform(0, width), horizon + rng.uniform(0, 0.4) * height
    tip = (int(x + rng.normal(0, 20)), int(base - rng.uniform(0.2, 0.6) * height))
    thickness = int(rng.integers(2, 10))
    cv2.line(image, (int(x), int(base)), tip, _muted(rng), thickness, cv2.LINE_AA)


def _floor_lines(rng: np.random.Generator, image: np.ndarray, horizon: float) -> None:
    """Boards or lanes that run towards a vanishing point."""
    height, width = image.shape[:2]
    vanishing = (int(rng.uniform(0, width)), int(horizon))
    shade = tuple(map(float, image[-1, 0] * rng.uniform(0.75, 0.95)))
    for x in np.linspace(-width, 2 * width, int(rng.integers(6, 16))):
        cv2.line(image, vanishing, (int(x), height), shade, 1, cv2.LINE_AA)
