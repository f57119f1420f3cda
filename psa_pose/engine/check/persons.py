"""Whether the boxes and keypoints of a dataset's persons can be right: counts over all of them."""

import numpy as np

from psa_pose.engine.check.findings import Findings, some
from psa_pose.engine.check.sheet import Sheet

FEW = 0.01  # of persons: COCO's own annotations have as many oddities


def check_persons(sheet: Sheet, where: str, findings: Findings) -> None:
    """Look at all persons of a file.

    Args:
        sheet: the file.
        where: its name in the findings.
        findings: to add to.
    """
    for fault in sheet.faults():
        findings.error(where, fault, 'a run stops there: mend or remove them')
    persons = len(sheet.id)
    if not persons:
        findings.error(
            where,
            f'no person of category {sheet.category.get("name")!r} among its annotations',
            "without any an evaluation needs a detector's boxes (dataset.bbox_file)",
        )
        return
    labelled = sheet.labelled
    used = np.any(labelled, axis=1)
    report = _Report(sheet, where, findings, used)
    _check_share(sheet, used, where, findings)
    if not used.any():
        return
    _check_labels(sheet, report)
    box, size = sheet.bbox, sheet.persons_size
    report.warn(
        np.isnan(box[:, 0]),
        'no bbox, though keypoints are labelled',
        'a run leaves them out; psa-pose init-config makes boxes of keypoints',
        always=True,
    )
    empty = np.any(box[:, 2:] <= 0, axis=1)
    report.warn(empty, 'an empty box', 'a run leaves these persons out', always=True)
    known = (size > 0).all(1) & ~empty & ~np.isnan(box[:, 0])
    outside = known & ((box[:, :2] >= size - 1) | (box[:, :2] + box[:, 2:] <= 0)).any(1)
    report.warn(outside, 'a box outside the image', 'a run leaves these persons out', always=True)
    if _looks_like_corners(sheet, known & used):
        findings.error(
            where,
            'boxes look like x1, y1, x2, y2: as x, y, width, height they reach far out of the '
            'images, as corners they fit the keypoints',
            'write them as x, y, width, height',
        )
        return
    beyond = known & ~outside & _sticks_out(box, size)
    report.warn(
        beyond,
        'a box of which less than half is in the image',
        'boxes are cut at the border',
    )
    _check_keypoints(sheet, report, known & ~outside)
    _check_area(sheet, where, used, findings)


class _Report:
    """Adds what is true of some persons, with their share and a few of their annotations."""

    def __init__(self, sheet: Sheet, where: str, findings: Findings, used: np.ndarray) -> None:
        self.sheet, self.where, self.findings, self.used = sheet, where, findings, used

    def warn(self, which: np.ndarray, what: str, remedy: str, always: bool = False) -> None:
        """A warning where it is more than few of those with labels, or else a note."""
        which = which & self.used
        count = int(which.sum())
        if not count:
            return
        ids = self.sheet.id[which][:4].tolist()
        text = f'persons: {count} of {int(self.used.sum())} with {what} (annotations {some(ids)})'
        often = always or count > FEW * self.used.sum()
        (self.findings.warning if often else self.findings.note)(self.where, text, remedy)


def _check_share(sheet: Sheet, used: np.ndarray, where: str, findings: Findings) -> None:
    persons, empty = len(used), int((~used).sum())
    text = f'{len(sheet.image_id)} images, {persons} persons'
    share = f'{empty} of them ({empty / persons:.0%}) without a labelled keypoint'
    text += f', {share}' if empty else ', all with labelled keypoints'
    text += ''.join(f', {count} {reason}' for reason, count in sheet.others.items())
    bare = len(sheet.image_id) - len(np.unique(sheet.image))
    text += f', {bare} images without a person' if bare else ''
    if empty == persons:
        findings.error(where, text, 'there is nothing to train on or to measure against')
    elif empty > 0.9 * persons:
        findings.warning(where, text, 'are the visibility flags (every third number) right?')
    else:
        findings.note(where, text)


def _check_labels(sheet: Sheet, report: _Report) -> None:
    flags, labelled = sheet.keypoints[..., 2], sheet.labelled
    report.warn(
        ~np.all(np.isin(flags, (0, 1, 2)), axis=1),
        'visibility flags other than 0, 1 and 2',
        'above 0 counts as labelled; are they scores?',
        always=True,
    )
    xy = sheet.keypoints[..., :2]
    report.warn(
        np.any(labelled & np.all(xy == 0, axis=-1), axis=1),
        'a keypoint that is labelled and lies at 0, 0',
        'give keypoints that are not there the visibility 0',
    )
    count = labelled.sum(1)
    low = np.where(labelled[..., None], xy, np.inf).min(1)
    high = np.where(labelled[..., None], xy, -np.inf).max(1)
    report.warn(
        (count > 2) & (high == low).all(1),
        'all keypoints at one point',
        'remove them',
        always=True,
    )
    points = xy[labelled]
    if len(points) > 10 and points.max() <= 1.5 and (sheet.persons_size > 8).all():
        report.findings.error(
            report.where,
            'all keypoints lie between 0 and 1: shares of the image, where pixels are expected',
            'multiply them by width and height of the images',
        )
    rows = np.column_stack([sheet.image, sheet.keypoints.reshape(len(xy), -1)])[report.used]
    doubles = len(rows) - len(np.unique(rows, axis=0))
    if doubles:
        report.findings.warning(
            report.where,
            f'persons: {doubles} with the image and the very keypoints of another',
            'remove the doubles: in an evaluation each counts as missed',
        )
    never = np.flatnonzero(~np.any(labelled, axis=0))
    if len(never):
        names = [sheet.category['keypoints'][i] for i in never]
        report.findings.warning(
            report.where, f'{some(names, 6)}: labelled on nobody', 'these cannot be learnt from it'
        )


def _check_keypoints(sheet: Sheet, report: _Report, known: np.ndarray) -> None:
    xy, labelled = sheet.keypoints[..., :2], sheet.labelled
    size = sheet.persons_size[:, None]
    outside = labelled & ((xy < -1) | (xy > size)).any(-1) & (size > 0).all(-1)
    report.warn(
        np.any(outside, axis=1),
        'labelled keypoints outside the image',
        'such keypoints are learnt as they stand: set their visibility to 0',
    )
    low, sides = sheet.bbox[:, None, :2], np.maximum(sheet.bbox[:, None, 2:], 1)
    away = np.maximum(np.maximum(low - xy, xy - low - sides), 0) / sides.max(-1, keepdims=True)
    far = ((away.max(-1) > 0.5) & labelled).any(1) & known
    share = far[known & report.used].mean() if (known & report.used).any() else 0
    if share > 0.5 and far.sum() >= 3:
        report.findings.error(
            report.where,
            f'{share:.0%} of the persons have keypoints far outside their box',
            'do boxes and keypoints use the same pixels, and the same images?',
        )
        return
    report.warn(
        far,
        'keypoints further outside the box than half its side',
        'the crop shows the box grown by a quarter: these are cut off',
    )


def _check_area(sheet: Sheet, where: str, used: np.ndarray, findings: Findings) -> None:
    """OKS measures by the area."""
    area, boxes = sheet.area[used], sheet.bbox[used, 2:].prod(1)
    if np.isnan(area).all():  # of MPII, or refused by CocoMetric, which names one of them
        return
    with np.errstate(invalid='ignore', divide='ignore'):
        ratio = area / boxes
    odd = (ratio > 1.1) | (ratio < 0.02)
    if odd.mean() > FEW:
        ids = sheet.id[used][odd][:4].tolist()
        findings.warning(
            where,
            f'{odd.mean():.0%} of the areas are no area of their box (annotations {some(ids)}: '
            f'{some([f"{r:.3g} boxes" for r in ratio[odd][:4]])})',
            'OKS, and so AP, measures by sqrt(area): of the mask in pixels, about half the box',
        )


def _looks_like_corners(sheet: Sheet, which: np.ndarray) -> bool:
    """Whether boxes are x1, y1, x2, y2 instead of x, y, width, height."""
    if which.sum() < 3:
        return False
    box, size = sheet.bbox[which], sheet.persons_size[which]
    xy, labelled = sheet.keypoints[which][..., :2], sheet.labelled[which]
    beyond = (box[:, :2] + box[:, 2:] > 1.05 * size).any(1)
    margin = 0.1 * box[:, None, 2:]
    inside = (xy >= box[:, None, :2] - margin) & (xy <= box[:, None, 2:] + margin)
    fits = (inside.all(-1) | ~labelled).all(1) & (box[:, 2:] > box[:, :2]).all(1)
    return bool(beyond.mean() > 0.5 and fits.mean() > 0.9)


def _sticks_out(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(P,) bool: less than half of the box is in the image."""
    low, high = np.clip(box[:, :2], 0, size), np.clip(box[:, :2] + box[:, 2:], 0, size)
    with np.errstate(invalid='ignore', divide='ignore'):
        return (high - low).prod(1) < 0.5 * box[:, 2:].prod(1)
