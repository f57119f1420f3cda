"""A person projected to the image plane: outlines to paint, and keypoints."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from psa_pose.datasets.synthetic.body import (
    FACE_KEYPOINTS,
    KEYPOINT_NAMES,
    SIDE_KEYPOINTS,
    Body,
    X,
    Y,
    Z,
    articulate,
    rotation,
    sample_proportions,
)
from psa_pose.datasets.synthetic.poses import Pose, sample_pose
from psa_pose.datasets.synthetic.wardrobe import (
    Band,
    Colour,
    Part,
    Piece,
    blend,
    dress,
    sample_outfit,
)

SUBPIXEL_BITS = 4  # OpenCV's `shift`: coordinates are given in 1/16 of a pixel
STRIDE = 16  # labels per person in the label map: person * STRIDE + part

# Shading: each piece is painted thrice, ever smaller, brighter and further towards the light.
# Share of the radius, the same where the piece is joined to another, and brightness.
SHADES = ((1.0, 1.0, 0.76), (0.8, 0.97, 1.0), (0.42, 0.45, 1.12))

NEARNESS_GAIN = 1.2  # pieces further from the camera are darker, by this much per stature

_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)

# Beyond these cosines a landmark faces away: COCO does not label such a nose, eye or ear (v = 0),
# and labels such a shoulder or hip as hidden by the body (v = 1).
_FACE_LIMIT, _SIDE_LIMIT = -0.35, -0.8


@dataclass(frozen=True)
class Viewpoint:
    """How the camera sees a person; angles in degrees, `stature` in pixels."""

    stature: float
    turn: float = 0.0  # of the person: 0 faces the camera, 90 the image's right
    roll: float = 0.0  # in the image plane, counter-clockwise
    elevation: float = 0.0  # of the camera above the person
    light: float = -0.5  # -1: from the image's left ... 1: from the right

    def axes(self) -> np.ndarray:
        """Rotation (3, 3) from the body's coordinates to the camera's (x right, y up, z nearer)."""
        return rotation(Z, self.roll) @ rotation(X, self.elevation) @ rotation(Y, self.turn)


@dataclass(frozen=True)
class Figure:
    """A projected person; pixel coordinates are relative to the middle of the hips.

    The outlines are convex polygons in painting order: polygon i is rows `ends[i]`..`ends[i + 1]`
    of `vertices` (n, 2), has `colours[i]` and shows `parts[i]` of the body.
    """

    vertices: np.ndarray
    ends: list[int]
    colours: list[Colour]
    parts: list[Part]
    keypoints: np.ndarray  # (17, 2)
    unlabelled: np.ndarray  # (17,) bool: on the far side of the head
    averted: np.ndarray  # (17,) bool: on the far side of the trunk
    stature: float  # standing height in pixels
    airborne: bool

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The upper left and the lower right corner, (2,) each."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    def paint(self, image: np.ndarray, offset: np.ndarray) -> None:
        """Paints the person on a BGR image with the hips at `offset` (x, y)."""
        for polygon, colour in zip(self._polygons(offset), self.colours, strict=True):
            cv2.fillConvexPoly(image, polygon, colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def paint_labels(self, labels: np.ndarray, offset: np.ndarray, person: int) -> None:
        """Writes `person * STRIDE + part` wherever `paint` would cover the image."""
        for polygon, part in zip(self._polygons(offset), self.parts, strict=True):
            label = person * STRIDE + part if part else 0
            cv2.fillConvexPoly(labels, polygon, label, cv2.LINE_8, SUBPIXEL_BITS)

    def _polygons(self, offset: np.ndarray) -> list[np.ndarray]:
        fixed = np.rint((self.vertices + offset) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        return [fixed[start:stop] for start, stop in pairwise(self.ends)]


def sample_figure(
    rng: np.random.Generator, stature: float, elevation: float, light: float
) -> Figure:
    """A random person of the given standing height in pixels."""
    pose = sample_pose(rng)
    view = Viewpoint(stature, _sample_turn(rng), _sample_roll(rng, pose), elevation, light)
    body = articulate(pose, sample_proportions(rng))
    pieces = dress(body, sample_outfit(rng))
    if pose.seated:
        pieces.append(_seat(rng, body))
    return project(body, pieces, view, pose.airborne)


def project(body: Body, pieces: list[Piece], view: Viewpoint, airborne: bool = False) -> Figure:
    """Projects a dressed body in parallel and sorts its pieces from far to near."""
    axes = view.axes()
    balls = np.concatenate([piece.balls for piece in pieces])
    seen = balls[:, :3] @ axes.T
    centres, radii = seen[:, :2] * (view.stature, -view.stature), balls[:, 3] * view.stature
    ends = np.cumsum([0] + [len(piece.balls) for piece in pieces])
    depths = np.add.reduceat(seen[:, 2], ends[:-1]) / np.diff(ends)
    nearness = 1 + np.clip(NEARNESS_GAIN * depths, -0.25, 0.1)
    depths += [piece.lift for piece in pieces]
    joints = np.zeros(len(balls), bool)
    joints[ends[:-1]] = [piece.jointed for piece in pieces]
    discs = _shaded_discs(centres, radii, joints, view.light)

    polygons, colours, parts = [], [], []
    for index in np.argsort(depths, kind='stable'):
        piece, span = pieces[index], slice(ends[index], ends[index + 1])
        outlines = [cv2.convexHull(circles[span].reshape(-1, 2))[:, 0] for circles in discs]
        strips = _strips(outlines[0], centres[span], piece.bands) if piece.bands else ()
        for (*_, brightness), outline in zip(SHADES, outlines, strict=True):
            painted = [(outline, piece.colour)]
            for strip, band in zip(strips, piece.bands, strict=True):
                _, polygon = cv2.intersectConvexConvex(outline, strip)
                if polygon is not None:
                    painted.append((polygon[:, 0], band.colour))
            polygons += [polygon for polygon, _ in painted]
            colours += [_brighten(colour, brightness * nearness[index]) for _, colour in painted]
            parts += [piece.part] * len(painted)

    unlabelled, averted = np.zeros((2, len(KEYPOINT_NAMES)), bool)
    facing = (body.outward() @ axes.T)[:, 2]
    unlabelled[FACE_KEYPOINTS] = facing[:5] < _FACE_LIMIT
    averted[SIDE_KEYPOINTS] = facing[5:] < _SIDE_LIMIT
    return Figure(
        vertices=np.concatenate(polygons),
        ends=np.cumsum([0] + [len(polygon) for polygon in polygons]).tolist(),
        colours=colours,
        parts=parts,
        keypoints=(body.keypoints() @ axes.T)[:, :2] * (view.stature, -view.stature),
        unlabelled=unlabelled,
        averted=averted,
        stature=view.stature,
        airborne=airborne,
    )


def _shaded_discs(centres: np.ndarray, radii: np.ndarray, joints: np.ndarray, light: float):
    """Points on every ball's outline for every shade, (shades, balls, points, 2) float32."""
    free, joined, _ = np.array(SHADES).T[:, :, None]
    shares = np.where(joints, joined, free)[:, :, None, None]
    towards_light = np.array([light, -0.35])
    radii = radii[:, None, None]
    discs = centres[:, None] + radii * (shares * _CIRCLE + 0.7 * (1 - shares) * towards_light)
    return discs.astype(np.float32)


def _strips(outline: np.ndarray, centres: np.ndarray, bands: tuple[Band, ...]) -> np.ndarray:
    """Rectangles whose intersection with a piece's outline the bands cover, (bands, 4, 2)."""
    third = max(len(centres) // 3, 1)  # one ball of a limb, a pair of balls of the trunk
    along = centres[-third:].mean(axis=0) - centres[:third].mean(axis=0)
    along = along / max(np.hypot(*along), 1e-6)
    axes = np.array([along, (-along[1], along[0])])
    coordinates = outline @ axes.T
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    extent = high - low
    rectangles = np.empty((len(bands), 4, 2))
    for rectangle, band in zip(rectangles, bands, strict=True):
        u, v = (1, 0) if band.lengthwise else (0, 1)
        start, stop = low[u] + extent[u] * band.start, low[u] + extent[u] * band.stop
        rectangle[:, u] = start, stop, stop, start
        rectangle[:, v] = low[v] - 1, low[v] - 1, high[v] + 1, high[v] + 1
    return (rectangles @ axes).astype(np.float32)


def _brighten(colour: Colour, brightness: float) -> Colour:
    if brightness > 1:
        return blend(colour, (255, 255, 255), brightness - 1)
    return tuple(brightness * channel for channel in colour)


def _seat(rng: np.random.Generator, body: Body) -> Piece:
    """A block under a sitting person; it belongs to the background."""
    ground = min(leg.end.origin[1] for leg in body.legs) - 0.03
    heights, widths, depths = (-0.075, ground), (-0.12, 0.12), (-0.13, 0.1)
    corners = [(x, y, z, 0.012) for y in heights for x in widths for z in depths]
    grey = rng.uniform(50, 190)
    return Piece(Part.NONE, np.array(corners), tuple(grey + rng.uniform(-30, 30, 3)), -1.0)


def _sample_turn(rng: np.random.Generator) -> float:
    """Front views are the most frequent, then side views, then back views."""
    kind = rng.random()
    if kind < 0.5:
        return rng.normal(0, 30)
    if kind < 0.8:
        return rng.choice((-1, 1)) * rng.normal(80, 18)
    return rng.normal(180, 28)


def _sample_roll(rng: np.random.Generator, pose: Pose) -> float:
    """Nearly upright, but for a few of those who do not sit."""
    if not pose.seated and rng.random() < 0.05:
        return rng.uniform(-80, 80)
    return rng.normal(0, 4)
