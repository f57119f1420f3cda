"""Skeletons drawn over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from psa_pose.structures import KeypointInfo

# Blue and orange after Okabe and Ito (2008), as bright as a dark photograph needs them; RGB. Any
# two stay far apart for every kind of colour-blind eye, and in grey.
LEFT, RIGHT, MIDDLE = (0, 140, 240), (255, 150, 0), (255, 255, 255)
_RIM = (20, 20, 20)
_SUBPIXEL_BITS = 4
FAR = 1e6  # pixels; OpenCV counts in 32 bits


def side_color(names: Sequence[str]) -> tuple[int, int, int]:
    """Blue for what belongs to the left, orange for the right, white for neither or both."""
    sides = {side for name in names for side in ('left', 'right') if side in name.lower()}
    return {'left': LEFT, 'right': RIGHT}[sides.pop()] if len(sides) == 1 else MIDDLE


def draw_pose(
    image: np.ndarray,
    keypoints: np.ndarray,
    drawn: np.ndarray,
    info: KeypointInfo,
    size: float,
    hidden: np.ndarray | None = None,
) -> None:
    """Draw one person's skeleton and keypoints into an image.

    Args:
        image: (H, W, 3) uint8, RGB; written to.
        keypoints: (K, 2) in pixels.
        drawn: (K,) bool; bones with an end left out are left out too.
        info: names and skeleton.
        size: of the person in pixels; sets the line width.
        hidden: (K,) bool, keypoints that are known but out of sight: dots with a dark centre.
    """
    width = max(1, round(size / 80))
    placed = np.where(drawn[:, None], keypoints, 0)  # what is not drawn may be no number
    placed = placed.clip(-FAR, FAR)
    points = np.round(placed * 2**_SUBPIXEL_BITS).astype(int)
    style = {'lineType': cv2.LINE_AA, 'shift': _SUBPIXEL_BITS}
    bones = [(a, b) for a, b in info.skeleton if drawn[a] and drawn[b]]
    for thickness, dark in ((width + 2, True), (width, False)):  # a dark rim on any background
        for a, b in bones:
            color = _RIM if dark else side_color((info.names[a], info.names[b]))
            cv2.line(image, points[a].tolist(), points[b].tolist(), color, thickness, **style)
    radius = (width + 1) * 2**_SUBPIXEL_BITS
    for k in np.flatnonzero(drawn):
        place, color = points[k].tolist(), side_color((info.names[k],))
        cv2.circle(image, place, radius, color, -1, **style)
        if hidden is not None and hidden[k]:
            cv2.circle(image, place, radius // 2, _RIM, -1, **style)
        if width > 1:  # on a small person the rim would leave nothing of the dot
            cv2.circle(image, place, radius, _RIM, 1, **style)
