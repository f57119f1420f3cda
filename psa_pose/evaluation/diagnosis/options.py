"""Thresholds of the diagnosis, with the places in the paper that they come from."""

from dataclasses import dataclass

KEYPOINT_KINDS = ('jitter', 'inversion', 'swap', 'miss')
"""Errors of a keypoint of a person that was found (paper, section 3.1)."""
CURES = ('miss', 'swap', 'inversion', 'jitter', 'score', 'background', 'duplicate', 'missed person')
"""In the order in which they are laid upon each other, which is the paper's."""


@dataclass(frozen=True)
class Options:
    """What counts as which error.

    Section numbers are those of Ronchi and Perona, "Benchmarking and Error Diagnosis
    in Multi-Instance Pose Estimation", ICCV 2017.

    Attributes:
        match_oks: OKS from which on a detection belongs to a person (0.1 in the authors' code).
        good: similarity from which on a keypoint is right; at 0.85 annotators differ too (3.1).
        near: similarity from which on a keypoint is near a place (3.1).
        any_part: inversions and swaps are confusions with any keypoint, not with the same one and
            its mirror image alone, which is what the authors' code studies.
        cure: where a cured keypoint goes. 'truth': onto its label. 'paper': so far from it that its
            similarity is `good` (jitter), `near` (miss), or that to the place it was confused with.
        pck_thr: share of the larger side of a person's box within which PCK counts a keypoint.
    """

    match_oks: float = 0.1
    good: float = 0.85
    near: float = 0.5
    any_part: bool = False
    cure: str = 'truth'
    pck_thr: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.near < self.good <= 1:
            raise ValueError(f'expected 0 < near < good <= 1, got {self.near} and {self.good}')
        if not 0 < self.match_oks <= 1:
            raise ValueError(f'expected 0 < match_oks <= 1, got {self.match_oks}')
        if self.pck_thr <= 0:
            raise ValueError(f'expected pck_thr > 0, got {self.pck_thr}')
        if self.cure not in ('truth', 'paper'):
            raise ValueError(f"cure must be 'truth' or 'paper', got '{self.cure}'")
