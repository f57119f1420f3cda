"""Random poses, as joint angles within anatomical limits.

A limb is described by four angles in degrees: flexion (forward positive), abduction (away from the
body positive), rotation (about the limb's own axis, inwards positive) and bend (of the elbow or the
knee). Arms and legs are arrays of shape (2, 4): row 0 is the left limb, row 1 the right one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ARM_LIMITS = np.array([(-50, 180), (-5, 170), (-95, 90), (0, 145)], float)
LEG_LIMITS = np.array([(-40, 110), (-5, 45), (-40, 20), (0, 130)], float)

# What one arm or one leg does: (low, high) of flexion, abduction, rotation and bend.
_HANGING = np.array([(-15, 20), (5, 24), (-10, 40), (0, 35)], float)
_ON_HIP = np.array([(-35, -15), (38, 55), (50, 75), (95, 115)], float)
_RAISED = np.array([(-10, 15), (120, 168), (-20, 20), (0, 60)], float)
_SIDEWAYS = np.array([(-10, 15), (60, 105), (-15, 15), (0, 40)], float)
_FORWARDS = np.array([(50, 100), (-5, 25), (0, 30), (0, 60)], float)
_AT_EAR = np.array([(25, 60), (15, 40), (10, 40), (125, 145)], float)
_FLEXED = np.array([(-10, 10), (70, 100), (-95, -70), (70, 110)], float)
_IN_LAP = np.array([(10, 35), (5, 18), (10, 50), (45, 80)], float)
_GESTURES = (_ON_HIP, _RAISED, _SIDEWAYS, _FORWARDS, _AT_EAR, _FLEXED)

_STRAIGHT = np.array([(-6, 10), (1, 10), (-25, 5), (0, 10)], float)
_ASTRIDE = np.array([(-8, 15), (12, 28), (-30, 0), (0, 20)], float)
_SEATED = np.array([(72, 95), (2, 20), (-15, 5), (70, 105)], float)
_SQUATTING = np.array([(75, 105), (8, 25), (-25, 0), (95, 125)], float)
_TUCKED = np.array([(5, 65), (2, 20), (-15, 5), (25, 110)], float)
_STAR = np.array([(-10, 15), (22, 42), (-25, 0), (0, 25)], float)
_LIFTED = np.array([(35, 90), (0, 15), (-15, 5), (5, 95)], float)


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees; see the module's description for `arms` and `legs`."""

    arms: np.ndarray
    legs: np.ndarray
    lean: float = 0.0  # of the trunk: forwards positive
    sway: float = 0.0  # of the trunk: towards the person's right positive
    twist: float = 0.0  # of the trunk: towards the person's left positive
    nod: float = 0.0  # of the head: downwards positive
    turn: float = 0.0  # of the head: towards the person's left positive
    airborne: bool = False
    seated: bool = False


def sample_pose(rng: np.random.Generator) -> Pose:
    """A random pose; mostly upright ones, as in photographs of people."""
    family = _FAMILIES[rng.choice(len(_FAMILIES), p=_FAMILY_SHARES)]
    return family(rng)


def _limb(rng: np.random.Generator, ranges: np.ndarray) -> np.ndarray:
    return rng.uniform(ranges[:, 0], ranges[:, 1])


def _pair(rng: np.random.Generator, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([_limb(rng, left), _limb(rng, right)])


def _gesture(rng: np.random.Generator, rest: np.ndarray = _HANGING) -> np.ndarray:
    """Both arms, (2, 4): at rest, making the same gesture, or making one each."""
    arms = [rest if rng.random() < 0.6 else _GESTURES[rng.integers(len(_GESTURES))]] * 2
    if rng.random() < 0.3:
        arms[rng.integers(2)] = _GESTURES[rng.integers(len(_GESTURES))]
    return _pair(rng, *arms)


def _pose(
    rng: np.random.Generator, arms: np.ndarray, legs: np.ndarray, lean=(-4, 8), **flags: bool
) -> Pose:
    """Adds the trunk's and the head's angles to the limbs' and enforces the joints' limits."""
    return Pose(
        arms=np.clip(arms, ARM_LIMITS[:, 0], ARM_LIMITS[:, 1]),
        legs=np.clip(legs, LEG_LIMITS[:, 0], LEG_LIMITS[:, 1]),
        lean=rng.uniform(*lean),
        sway=rng.normal(0, 5),
        twist=rng.normal(0, 8),
        nod=np.clip(rng.normal(4, 10), -25, 35),
        turn=np.clip(rng.normal(0, 22), -60, 60),
        **flags,
    )


def _stand(rng: np.random.Generator) -> Pose:
    stance = _STRAIGHT if rng.random() < 0.6 else _ASTRIDE
    return _pose(rng, _gesture(rng), _pair(rng, stance, stance))


def _gait(rng: np.random.Generator, stride: float, lift: float, elbow: float, lean) -> Pose:
    """One moment of a walk or a run: arms and legs swing in opposition, the knee bends in swing."""
    phase = rng.uniform(0, 2 * np.pi) + np.array([0, np.pi])
    swing, forward_motion = np.sin(phase), np.cos(phase)
    legs = _pair(rng, _STRAIGHT, _STRAIGHT)
    legs[:, 0] += stride * (swing + 0.15)
    legs[:, 3] += lift * np.maximum(forward_motion, 0.1)
    arms = _pair(rng, _HANGING, _HANGING)
    arms[:, 0] -= stride * swing
    arms[:, 3] = elbow + rng.uniform(-12, 12, 2)
    if rng.random() < 0.2:
        arms = _gesture(rng)
    return _pose(rng, arms, legs, lean)


def _walk(rng: np.random.Generator) -> Pose:
    return _gait(rng, rng.uniform(18, 30), rng.uniform(25, 45), rng.uniform(10, 30), (0, 10))


def _run(rng: np.random.Generator) -> Pose:
    return _gait(rng, rng.uniform(35, 50), rng.uniform(60, 95), rng.uniform(75, 105), (5, 22))


def _sit(rng: np.random.Generator) -> Pose:
    return _pose(
        rng, _gesture(rng, rest=_IN_LAP), _pair(rng, _SEATED, _SEATED), (-8, 15), seated=True
    )


def _jump(rng: np.random.Generator) -> Pose:
    legs = _TUCKED if rng.random() < 0.6 else _STAR
    arms = _RAISED if rng.random() < 0.5 else _SIDEWAYS
    return _pose(rng, _pair(rng, arms, arms), _pair(rng, legs, legs), airborne=True)


def _squat(rng: np.random.Generator) -> Pose:
    return _pose(rng, _gesture(rng, rest=_FORWARDS), _pair(rng, _SQUATTING, _SQUATTING), (10, 30))


def _stoop(rng: np.random.Generator) -> Pose:
    arms = _FORWARDS if rng.random() < 0.6 else _HANGING
    return _pose(rng, _pair(rng, arms, arms), _pair(rng, _STRAIGHT, _STRAIGHT), (25, 65))


def _kick(rng: np.random.Generator) -> Pose:
    legs = _pair(rng, _LIFTED, _STRAIGHT)
    return _pose(rng, _gesture(rng), legs[::-1] if rng.random() < 0.5 else legs)


_FAMILIES: tuple[Callable[[np.random.Generator], Pose], ...] = (
    _stand, _walk, _run, _sit, _jump, _squat, _stoop, _kick,
)  # fmt: skip
_FAMILY_SHARES = (0.40, 0.23, 0.11, 0.08, 0.06, 0.03, 0.04, 0.05)
