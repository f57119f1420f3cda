"""Whether the keypoints of a dataset are named, mirrored and connected as they should be."""

from collections.abc import Sequence

import numpy as np

from psa_pose.engine.check.findings import Findings, some
from psa_pose.engine.check.sheet import Sheet
from psa_pose.errors import DataError
from psa_pose.structures import KeypointInfo, side_of

SURE = 30  # persons without which a share says nothing


def check_info(
    sheet: Sheet, where: str, findings: Findings, mirrored: bool = True
) -> KeypointInfo | None:
    """Look at the keypoints' names, sides, skeleton and sigmas; None where they are unusable.

    Args:
        sheet: the file.
        where: its name in the findings.
        findings: to add to.
        mirrored: whether left and right change places anywhere.
    """
    try:
        info = KeypointInfo.from_category(sheet.category, str(sheet.path))
    except DataError as error:
        findings.take([error], where)
        return None
    names, flips = info.names, info.flip_indices
    odd = [names[i] for i, j in enumerate(flips) if flips[j] != i]
    if odd:
        findings.error(
            where,
            f'mirroring twice does not lead back from {some(odd)}',
            "name keypoints of one part 'left_x' and 'right_x', and no others so",
        )
    alone = [name for i, name in enumerate(names) if flips[i] == i and side_of(name)]
    if alone and mirrored:
        findings.warning(
            where,
            f'{some(alone)}: no keypoint of the other side is named alike',
            'mirrored, they keep their names, and a left one is learnt as a right one',
        )
    elif mirrored and flips == tuple(range(len(names))) and len(names) > 1:
        findings.warning(
            where,
            f"no keypoints are named 'left' and 'right' of the same part: {some(names, 6)}",
            'rename them where they have sides; where they have none all is well',
        )
    if info.sigmas_source == 'guessed':
        findings.note(
            where,
            'has no sigmas: OKS-AP uses guesses by body part and compares with no other',
            "put `sigmas` into the file's category, or use PCKAccuracy",
        )
    unconnected = set(range(len(names))) - {end for bone in info.skeleton for end in bone}
    if info.skeleton and unconnected:
        found = some([names[i] for i in sorted(unconnected)], 6)
        findings.note(where, f'the skeleton leaves out {found}', 'pictures show them as dots alone')
    elif not info.skeleton:
        findings.note(where, 'has no skeleton', 'pictures show dots without bones')
    return info


def pairs(info: KeypointInfo) -> Sequence[tuple[int, int]]:
    """Indices of left and right keypoints of the same part."""
    return [
        (i, j)
        for i, j in enumerate(info.flip_indices)
        if i != j and side_of(info.names[i]) == 'left'
    ]


def check_sides(sheet: Sheet, info: KeypointInfo, where: str, findings: Findings) -> None:
    """Whether some parts' left and right are named the other way round than the others'.

    Of one person the left of all parts mostly lies on the same side of the right. A pair that is
    at odds with most others has its names the wrong way round; the file as a whole says nothing,
    but for eyes: who shows both looks at the camera, and the left one is on the picture's right.
    """
    labelled, x = sheet.labelled, sheet.keypoints[..., 0]
    found = pairs(info)
    if not found:
        return
    both = np.array([labelled[:, i] & labelled[:, j] for i, j in found])
    apart = np.array([x[:, i] - x[:, j] for i, j in found])
    width = np.nanmax(np.where(labelled, x, np.nan), 1, initial=0)
    width = width - np.nanmin(np.where(labelled, x, np.nan), 1, initial=np.inf)
    clear = both & (np.abs(apart) > 0.1 * np.maximum(width, 1))
    sign = np.where(clear, np.sign(apart), 0)
    for p, (i, _) in enumerate(found):
        others = sign.sum(0) - sign[p]
        counted = clear[p] & (np.abs(others) >= min(2, len(found) - 1)) & (others != 0)
        if counted.sum() < SURE:
            continue
        agree = (sign[p] == np.sign(others))[counted].mean()
        if agree < 0.3:
            findings.warning(
                where,
                f"'{info.names[i]}' and its right one lie the other way round than other parts' in "
                f'{1 - agree:.0%} of {int(counted.sum())} persons',
                'their names, or columns, may be swapped',
            )
    eyes = [p for p, (i, _) in enumerate(found) if 'eye' in info.names[i].lower().split('_')]
    for p in eyes:
        shown = clear[p]
        if shown.sum() >= SURE and (share := (sign[p] < 0)[shown].mean()) > 0.7:
            findings.warning(
                where,
                f"the left eye is on the picture's left in {share:.0%} of {int(shown.sum())} "
                'persons who show both',
                "is 'left' meant as seen by the camera, or are the images mirrored?",
            )
