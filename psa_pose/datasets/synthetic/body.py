"""Articulated body: from joint angles to joints in space, and to COCO's 17 keypoints.

Axes are right-handed: x points to the person's left, y up, z where the person faces. The camera
looks along -z, so an unturned person faces it and has its left on the right of the image. The unit
of length is the height of the standing person; the origin is midway between the hips.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from psa_pose.datasets.synthetic.poses import Pose
from psa_pose.structures import COCO_KEYPOINTS

KEYPOINT_NAMES = COCO_KEYPOINTS.names

FACE_KEYPOINTS = [0, 1, 2, 3, 4]  # nose, eyes and ears
SIDE_KEYPOINTS = [5, 6, 11, 12]  # shoulders and hips

X, Y, Z = range(3)
SIDES = (1, -1)  # left, right: the sign of x

WAIST = np.array([0, 0.09, 0])  # where the trunk bends
NECK = np.array([0, 0.215, -0.005])  # from the waist, in the chest's frame
HEAD_CENTRE = np.array([0, 0.105, 0.012])  # from the neck, in the head's frame

# In the head's frame, from the head's centre: nose, eyes and ears.
FACE = np.array([
    (0, -0.014, 0.060),
    (0.023, 0.004, 0.049), (-0.023, 0.004, 0.049),
    (0.056, -0.006, -0.004), (-0.056, -0.006, -0.004),
])  # fmt: skip


@dataclass(frozen=True)
class Proportions:
    """Lengths in units of the standing height; `girth` scales every limb's thickness."""

    shoulder: float = 0.105  # half the distance between the shoulders
    hip: float = 0.068  # half the distance between the hips
    upper_arm: float = 0.165
    forearm: float = 0.140
    thigh: float = 0.245
    shin: float = 0.235
    head: float = 1.05
    girth: float = 1.0


@dataclass(frozen=True)
class Frame:
    """A rigid piece of the body: its origin (3,) and its axes as the columns of (3, 3)."""

    origin: np.ndarray
    axes: np.ndarray

    def place(self, points) -> np.ndarray:
        """Points (..., 3) given in this frame, in the body's coordinates."""
        return self.origin + np.asarray(points, float) @ self.axes.T


@dataclass(frozen=True)
class Limb:
    """Three joints (shoulder, elbow, wrist or hip, knee, ankle) and the lower segment's frame."""

    root: np.ndarray
    middle: np.ndarray
    end: Frame


@dataclass(frozen=True)
class Body:
    """A posed body; `arms` and `legs` are (left, right)."""

    proportions: Proportions
    pelvis: Frame
    chest: Frame
    head: Frame
    arms: tuple[Limb, ...]
    legs: tuple[Limb, ...]

    def keypoints(self) -> np.ndarray:
        """COCO's 17 keypoints in the body's coordinates, (17, 3)."""
        (left_arm, right_arm), (left_leg, right_leg) = self.arms, self.legs
        return np.concatenate([
            self.head.place(FACE * self.proportions.head),
            [left_arm.root, right_arm.root, left_arm.middle, right_arm.middle],
            [left_arm.end.origin, right_arm.end.origin],
            [left_leg.root, right_leg.root, left_leg.middle, right_leg.middle],
            [left_leg.end.origin, right_leg.end.origin],
        ])  # fmt: skip

    def outward(self) -> np.ndarray:
        """The way the surface faces at FACE_KEYPOINTS and SIDE_KEYPOINTS, (9, 3)."""
        face = np.array([(0, 0, 1), (0.4, 0, 0.9), (-0.4, 0, 0.9), (1, 0, 0), (-1, 0, 0)])
        sides = np.array([(1, 0, 0), (-1, 0, 0)])
        return np.concatenate(
            [face @ self.head.axes.T, sides @ self.chest.axes.T, sides @ self.pelvis.axes.T]
        )


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about a coordinate axis, (3, 3)."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def sample_proportions(rng: np.random.Generator) -> Proportions:
    """A body that differs from the average by some percent in every length."""
    average = Proportions()
    trunk, arm, leg = rng.uniform((0.9, 0.94, 0.95), (1.1, 1.06, 1.03))
    return Proportions(
        shoulder=average.shoulder * trunk,
        hip=average.hip * rng.uniform(0.92, 1.1),
        upper_arm=average.upper_arm * arm,
        forearm=average.forearm * arm,
        thigh=average.thigh * leg,
        shin=average.shin * leg,
        head=average.head * rng.uniform(0.94, 1.14),
        girth=rng.uniform(0.9, 1.2),
    )


def articulate(pose: Pose, proportions: Proportions) -> Body:
    """Forward kinematics: from the pelvis up to the head and out along each limb."""
    pelvis = Frame(np.zeros(3), np.eye(3))
    trunk = rotation(Z, pose.sway) @ rotation(Y, pose.twist) @ rotation(X, pose.lean)
    chest = Frame(WAIST, trunk)
    facing = rotation(Y, pose.turn) @ rotation(X, pose.nod - 0.6 * pose.lean)
    skull = trunk @ facing
    head = Frame(chest.place(NECK) + skull @ HEAD_CENTRE, skull)
    size = proportions
    arms = tuple(
        _limb(chest, (side * size.shoulder, 0.19, 0), side, angles, size.upper_arm, size.forearm, 1)
        for side, angles in zip(SIDES, pose.arms, strict=True)
    )
    legs = tuple(
        _limb(pelvis, (side * size.hip, 0, 0), side, angles, size.thigh, size.shin, -1)
        for side, angles in zip(SIDES, pose.legs, strict=True)
    )
    return Body(proportions, pelvis, chest, head, arms, legs)


def _limb(parent: Frame, root, side: int, angles, upper: float, lower: float, hinge: int) -> Limb:
    """A limb hanging down from `root` (3,); `hinge` is +1 if it bends forwards, -1 backwards."""
    flexion, abduction, inward, bend = angles
    swing = rotation(X, -flexion) @ rotation(Z, side * abduction) @ rotation(Y, -side * inward)
    upper_axes = parent.axes @ swing
    lower_axes = upper_axes @ rotation(X, -hinge * bend)
    start = parent.place(root)
    middle = start - upper * upper_axes[:, Y]
    return Limb(start, middle, Frame(middle - lower * lower_axes[:, Y], lower_axes))
