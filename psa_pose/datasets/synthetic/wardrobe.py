"""Dressing a body: the solid pieces a person is made of, with their colours.

Every piece is the convex hull of a few balls, which gives tapered limbs, trunks, heads, shoes and
skirts alike. The left side can be told from the right by anatomy and, as a helpful habit of the
people in this world, by dress: left limbs are paler, with light shoes, wristbands, elbow and knee
pads, which are dark on the right.
"""

import colorsys
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from psa_pose.datasets.synthetic.body import FACE, SIDES, Body, Frame

SKIN_TONES = ((205, 224, 250), (170, 200, 240), (125, 165, 215), (85, 120, 175), (50, 75, 120))
HAIR_TONES = ((25, 25, 30), (30, 45, 70), (45, 75, 120), (90, 160, 205), (150, 150, 155))
BAND_TONES = ((245, 245, 245), (60, 225, 250), (235, 235, 150))
DARK_GEAR = (38, 34, 34)

Colour = tuple[float, ...]  # blue, green, red in 0..255


class Part(IntEnum):
    """Which part of the body a pixel shows; left and right limbs alternate."""

    NONE = 0
    HEAD = 1
    TRUNK = 2
    PELVIS = 3
    LEFT_UPPER_ARM = 4
    RIGHT_UPPER_ARM = 5
    LEFT_FOREARM = 6
    RIGHT_FOREARM = 7
    LEFT_THIGH = 8
    RIGHT_THIGH = 9
    LEFT_SHIN = 10
    RIGHT_SHIN = 11


@dataclass(frozen=True)
class Band:
    """A stripe across (or along) a piece, between two fractions of its extent."""

    start: float
    stop: float
    colour: Colour
    lengthwise: bool = False


@dataclass(frozen=True)
class Piece:
    """The convex hull of `balls` (n, 4), each x, y, z and radius; from first to last is its axis.

    `lift` is added to the mean depth when pieces are sorted, to settle near-ties. A `jointed` piece
    continues another at its first ball, so that it is not outlined there.
    """

    part: Part
    balls: np.ndarray
    colour: Colour
    lift: float = 0.0
    bands: tuple[Band, ...] = ()
    jointed: bool = False


@dataclass(frozen=True)
class Outfit:
    """What a person wears; `sleeve` and `leg` are the covered shares of upper arm and thigh.

    A share of 1 stands for the whole limb, down to the wrist or the ankle.
    """

    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    band: Colour
    sleeve: float
    leg: float
    skirt: bool
    long_hair: bool
    hat: Colour | None
    pattern: tuple[Band, ...]


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Random clothes, hair and skin."""
    skin = _vary(rng, SKIN_TONES[rng.integers(len(SKIN_TONES))], 12)
    skirt = rng.random() < 0.15
    return Outfit(
        skin=skin,
        hair=_vary(rng, HAIR_TONES[rng.integers(len(HAIR_TONES))], 10),
        top=cloth_colour(rng),
        bottom=cloth_colour(rng),
        band=BAND_TONES[rng.integers(len(BAND_TONES))],
        sleeve=(0.0, 0.55, 1.0)[rng.choice(3, p=(0.15, 0.4, 0.45))],
        leg=0.0 if skirt else (0.75, 1.0)[rng.choice(2, p=(0.3, 0.7))],
        skirt=skirt,
        long_hair=rng.random() < (0.8 if skirt else 0.3),
        hat=cloth_colour(rng) if rng.random() < 0.15 else None,
        pattern=_pattern(rng),
    )


def cloth_colour(rng: np.random.Generator) -> Colour:
    """A random colour, neither black nor white."""
    hue, saturation, value = rng.uniform((0, 0.1, 0.25), (1, 0.9, 0.9))
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return (255 * blue, 255 * green, 255 * red)


def dress(body: Body, outfit: Outfit) -> list[Piece]:
    """All pieces of a dressed person, in the body's coordinates and in no particular order."""
    pieces = [*_trunk(body, outfit), *_head(body, outfit)]
    for index, side in enumerate(SIDES):
        pieces += _arm(body, outfit, index, side) + _leg(body, outfit, index, side)
    return pieces


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with the given share of `other` mixed in."""
    return tuple((1 - share) * a + share * b for a, b in zip(colour, other, strict=True))


def _vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    return tuple(np.clip(np.asarray(colour) + rng.uniform(-spread, spread, 3), 10, 255))


def _pattern(rng: np.random.Generator) -> tuple[Band, ...]:
    """Stripes of the shirt: none, across, along, or one broad block."""
    kind, colour = rng.random(), cloth_colour(rng)
    if kind < 0.5:
        return ()
    if kind < 0.6:
        return (Band(0.35, 0.6, colour),)
    count = int(rng.integers(3, 6))
    edges = (np.arange(count)[:, None] + (0.25, 0.75)) / count
    return tuple(Band(start, stop, colour, lengthwise=kind > 0.8) for start, stop in edges)


def _on_side(colour: Colour, side: int) -> Colour:
    """The tone of a limb's colour on the left (paler) or on the right (darker)."""
    return blend(colour, (255, 255, 255), 0.35) if side > 0 else blend(colour, (0, 0, 0), 0.25)


def _gear(outfit: Outfit, side: int) -> Colour:
    """The colour of shoes, wristbands and pads on one side."""
    return outfit.band if side > 0 else DARK_GEAR


def _balls(frame: Frame, *balls) -> np.ndarray:
    """Balls (x, y, z, radius) given in a frame, in the body's coordinates: (n, 4)."""
    array = np.array(balls, float)
    return np.concatenate([frame.place(array[:, :3]), array[:, 3:]], axis=1)


def _bone(start, stop, radius_start: float, radius_stop: float) -> np.ndarray:
    """Two balls spanning a bone, (2, 4)."""
    return np.array([(*start, radius_start), (*stop, radius_stop)])


def _cover(bone: np.ndarray, share: float, looseness: float) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a bone in the part that a loose garment covers and the one that looks out of it."""
    start, stop = bone
    covered = np.stack([start, start + share * (stop - start)])
    covered[:, 3] += looseness
    bare = np.stack([start + (share - 0.2) * (stop - start), stop])
    return covered, bare


def _trunk(body: Body, outfit: Outfit) -> list[Piece]:
    size, girth = body.proportions, body.proportions.girth
    yoke, hip = size.shoulder - 0.022, size.hip
    chest = _balls(
        body.chest,
        *((s * yoke, 0.185, 0, 0.036) for s in SIDES),
        *((s * (yoke - 0.03), 0.12, 0.006, 0.060 * girth) for s in SIDES),
        *((s * 0.042, -0.01, 0, 0.052 * girth) for s in SIDES),
    )
    loins = _balls(
        body.pelvis,
        *((s * 0.045, 0.075, 0, 0.048 * girth) for s in SIDES),
        *((s * (hip - 0.008), 0, 0, 0.056 * girth) for s in SIDES),
    )
    nape, throat = body.head.place((0, -0.03, -0.01)), body.chest.place((0, 0.195, -0.005))
    neck = _bone(throat, nape, 0.031, 0.028)
    pieces = [
        Piece(Part.TRUNK, chest, outfit.top, 0.0, outfit.pattern),
        Piece(Part.PELVIS, loins, outfit.bottom, -0.012),
        Piece(Part.TRUNK, neck, blend(outfit.skin, (0, 0, 0), 0.12), 0.015),
    ]
    pieces += [
        _panel(body.chest, 0.055, outfit.band, 0.045, (0.07, 0.15)),
        _panel(body.chest, -0.055, blend(outfit.top, (0, 0, 0), 0.75), 0.05, (0.03, 0.16)),
    ]
    if outfit.skirt:
        pieces.append(Piece(Part.PELVIS, _skirt(body), outfit.bottom, 0.06))
    return pieces


def _panel(chest: Frame, z: float, colour: Colour, reach: float, heights) -> Piece:
    """A bib on the breast or a pad on the back, by which front and back views can be told apart."""
    balls = [(s * reach, y, z, 0.012) for y in heights for s in SIDES]
    return Piece(Part.TRUNK, _balls(chest, *balls), colour, -0.015)


def _skirt(body: Body) -> np.ndarray:
    """From the waist to just above the knees, wherever these are, (4, 4)."""
    waist = _balls(body.pelvis, *((s * 0.04, 0.06, 0, 0.05) for s in SIDES))
    hem = [(*(leg.root + 0.68 * (leg.middle - leg.root)), 0.065) for leg in body.legs]
    return np.concatenate([waist, hem])


def _head(body: Body, outfit: Outfit) -> list[Piece]:
    scale = body.proportions.head

    def piece(colour, *balls, lift=0.0):
        sized = np.array(balls, float) * scale
        return Piece(Part.HEAD, _balls(body.head, *sized), colour, 0.02 + lift)

    nose, left_eye, right_eye, left_ear, right_ear = FACE
    shade = blend(outfit.skin, (20, 20, 60), 0.3)
    pieces = [
        piece(outfit.skin, (0, 0.012, -0.002, 0.056), (0, -0.036, 0.012, 0.037)),
        piece(shade, (*nose * (1, 1, 0.92), 0.011), (0, 0.0, 0.052, 0.006), lift=0.005),
        piece((60, 50, 120), (-0.014, -0.041, 0.044, 0.005), (0.014, -0.041, 0.044, 0.005)),
    ]
    for eye in (left_eye, right_eye):
        pieces.append(piece((245, 245, 245), (*eye * (1, 1, 0.86), 0.012), lift=-0.004))
        pieces.append(piece((40, 30, 30), (*eye * (1, 1, 0.97), 0.0068)))
    pieces += [piece(shade, (*ear, 0.014), lift=-0.004) for ear in (left_ear, right_ear)]
    top = outfit.hair if outfit.hat is None else outfit.hat
    pieces.append(piece(top, (0, 0.022, -0.026, 0.058), lift=0.008))
    fringe = ((-0.03, 0.048, 0.026, 0.021), (0.03, 0.048, 0.026, 0.021), (0, 0.055, -0.01, 0.03))
    pieces.append(piece(top, *fringe))
    if outfit.hat is not None:
        pieces.append(piece(top, (-0.03, 0.034, 0.07, 0.008), (0.03, 0.034, 0.07, 0.008)))
    if outfit.long_hair:
        locks = ((0, 0.01, -0.03, 0.058), (0, -0.09, -0.045, 0.037))
        pieces.append(piece(outfit.hair, *locks, lift=-0.02))
    return pieces


def _arm(body: Body, outfit: Outfit, index: int, side: int) -> list[Piece]:
    arm, girth = body.arms[index], body.proportions.girth
    upper = _bone(arm.root, arm.middle, 0.035 * girth, 0.027 * girth)
    lower = _bone(arm.middle, arm.end.origin, 0.027 * girth, 0.019 * girth)
    hand = _balls(arm.end, (0, -0.005, 0, 0.02), (0, -0.05, 0.008, 0.02))
    limb = _Limb(*_limb_parts(Part.LEFT_UPPER_ARM, index), upper, lower, 0.025)
    gear = _gear(outfit, side)
    wristband = Band(0.8, 1.0, gear)
    pieces = limb.clad(outfit.skin, _on_side(outfit.top, side), outfit.sleeve, gear, wristband)
    return [*pieces, Piece(limb.lower_part, hand, outfit.skin, 0.026, jointed=True)]


def _leg(body: Body, outfit: Outfit, index: int, side: int) -> list[Piece]:
    leg, girth = body.legs[index], body.proportions.girth
    thigh = _bone(leg.root, leg.middle, 0.057 * girth, 0.039 * girth)
    shin = _bone(leg.middle, leg.end.origin, 0.039 * girth, 0.025 * girth)
    foot = _balls(leg.end, (0, -0.018, -0.018, 0.024), (side * 0.012, -0.026, 0.085, 0.017))
    limb = _Limb(*_limb_parts(Part.LEFT_THIGH, index), thigh, shin, -0.02)
    gear = _gear(outfit, side)
    pieces = limb.clad(outfit.skin, _on_side(outfit.bottom, side), outfit.leg, gear)
    return [*pieces, Piece(limb.lower_part, foot, gear, -0.01)]


def _limb_parts(left_upper: Part, index: int) -> tuple[Part, Part]:
    """The upper and the lower part of the left (index 0) or the right (1) limb."""
    return Part(left_upper + index), Part(left_upper + 2 + index)


@dataclass(frozen=True)
class _Limb:
    """An arm or a leg without hand or foot."""

    upper_part: Part
    lower_part: Part
    upper: np.ndarray
    lower: np.ndarray
    lift: float

    def clad(self, skin: Colour, cloth: Colour, share: float, pad: Colour, *bands: Band):
        """The limb's pieces, with `share` of its upper half in cloth; 1 covers the lower too.

        A pad covers the joint in the middle; the bands are put on the lower half.
        """
        whole = cloth if share == 1 else skin
        upper_bands, lower_bands = (Band(0.78, 1.0, pad),), (Band(0.0, 0.27, pad), *bands)
        pieces = [Piece(self.lower_part, self.lower, whole, self.lift + 0.002, lower_bands, True)]
        upper = self.upper
        if 0 < share < 1:
            covered, upper = _cover(self.upper, share, looseness=0.006)
            pieces.append(Piece(self.upper_part, covered, cloth, self.lift + 0.01, (), True))
        return [*pieces, Piece(self.upper_part, upper, whole, self.lift, upper_bands, True)]
