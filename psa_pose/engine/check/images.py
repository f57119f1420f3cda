"""Whether a dataset's images are there and are what the annotations say: all names, some files."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from psa_pose.datasets.image_names import unsafe
from psa_pose.datasets.transforms import read_image
from psa_pose.engine.check.findings import Findings, some
from psa_pose.engine.check.sheet import Sheet
from psa_pose.errors import DataError

SAMPLE = 32  # images that are decoded


def check_images(
    sheet: Sheet, root: Path, where: str, findings: Findings, skips: bool = False
) -> None:
    """Look for all images that show a person with labels, and decode a few of them.

    Args:
        sheet: the annotations.
        root: the folder of the images.
        where: names the annotations in the findings.
        findings: to add to.
        skips: whether a run leaves out what it cannot read (`on_error='skip'`).
    """
    rows = _check_names(sheet, sheet.labelled_images, where, findings)
    names = [sheet.image_name[row] for row in rows]
    there = _existing(root, names)
    missing = [name for name in names if name not in there]
    tell = findings.warning if skips else findings.error
    if missing:
        tell(
            where,
            f'{len(missing)} of {len(names)} images are not in {root} ({some(missing)})',
            _remedy(root, missing, 'data_root or data_prefix.img'),
        )
    kept = [row for row, name in zip(rows, names, strict=True) if name in there]
    step = max(len(kept) // SAMPLE, 1)
    bad, other, turned = [], [], []
    for row in kept[::step][:SAMPLE]:
        name, (width, height) = sheet.image_name[row], sheet.image_size[row]
        try:
            found = read_image(root / name).shape[1::-1]
        except DataError as error:
            bad.append(str(error))
            continue
        if width and found != (width, height):
            other.append(f'{name} is {found[0]}x{found[1]}, annotated as {width:g}x{height:g}')
            turned.append(found == (height, width))
    if bad:
        tell(
            where,
            f'{len(bad)} of {len(kept[::step][:SAMPLE])} images looked at cannot be read: {bad[0]}',
            "replace them; dataset.on_error='skip' leaves their persons out",
        )
    if other:
        tell(
            where,
            f'{len(other)} of {len(kept[::step][:SAMPLE])} images looked at have another size: '
            f'{other[0]}',
            'they were turned: EXIF orientation is ignored here, as in COCO; rotate the pixels'
            if all(turned)
            else 'do annotations and images belong together, or were the images resized?',
        )


def require_images(sheet: Sheet, root: Path, option: str) -> None:
    """Refuse a folder that has none of the images of persons with labels.

    Raises:
        DataError: says where they are, if that is near; `option` is what named the folder.
    """
    names = [sheet.image_name[row] for row in sheet.labelled_images]
    if not _existing(root, names):
        raise DataError(
            f'{root} has none of the {len(names)} images of {sheet.path} ({some(names)}): '
            f'{_remedy(root, names, option)}'
        )


def used_images(sheet: Sheet, root: Path) -> set[str]:
    """Paths of the images with persons, for a comparison with another file's."""
    base = os.path.realpath(root)
    names = (sheet.image_name[row] for row in sheet.labelled_images)
    return {os.path.normpath(os.path.join(base, name)) for name in names}


def _check_names(sheet: Sheet, rows: np.ndarray, where: str, findings: Findings) -> np.ndarray:
    """Rows of images whose names are safe to look for."""
    names = [sheet.image_name[row].encode(errors='replace') for row in rows]
    kept = np.ones(len(rows), bool)
    for reason, bad in unsafe(np.array(names or [b'a'])).items():
        if names and bad.any():
            kept &= ~bad
            found = some([repr(sheet.image_name[row]) for row in rows[bad]])
            findings.error(
                where,
                f'{int(bad.sum())} file names of images: each {reason} ({found})',
                'names are relative to data_prefix.img and stay inside it',
            )
    return rows[kept]


def _existing(root: Path, names: Collection[str]) -> set[str]:
    """Those of `names` that are there, by listing folders: NFS takes minutes to ask for each."""
    folders: dict[str, set[str]] = {}
    found = set()
    for name in names:
        folder, _, last = name.rpartition('/')
        if folder not in folders:
            try:
                folders[folder] = set(os.listdir(root / folder))
            except (OSError, ValueError):  # no folder, or no name for one
                folders[folder] = set()
        if last in folders[folder]:
            found.add(name)
    return found


def _remedy(root: Path, missing: list[str], option: str) -> str:
    """Where they are after all, if that is near; `option` is what says the folder."""
    name = missing[0]
    last = name.rpartition('/')[2]
    for folder in (root, root.parent):
        for place in (folder, *sorted(f for f in _entries(folder) if f.is_dir())):
            if place != root and (place / name).is_file():
                return f'{name} is in {place}: is {option} right?'
            if last != name and (place / last).is_file():
                return f'{last} is in {place}, but the annotations call it {name}'
    stem = Path(last).stem
    others = [f.name for f in _entries(root / Path(name).parent) if f.stem == stem]
    if others:
        return f'there is {others[0]}: the annotations name another ending'
    return f'unpack them there, or correct {option}'


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
