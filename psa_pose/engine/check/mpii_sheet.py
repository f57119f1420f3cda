"""A file in MPII's layout as a `Sheet`."""

from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.datasets.mpii import FIRST_PIXEL, LOWERED, PIXELS_PER_SCALE, read_mpii_json
from psa_pose.datasets.persons import LARGEST
from psa_pose.engine.check.sheet import Sheet
from psa_pose.structures import MPII_KEYPOINTS


def read_mpii_sheet(path: Path) -> Sheet:
    """Read a JSON in MPII's layout; persons' ids are their places in the file.

    Raises:
        DataError: it is none.
    """
    names: dict[str, int] = {}
    wrong: dict[str, list[str]] = {}
    columns: list[tuple[Any, ...]] = []
    for number, entry in enumerate(read_mpii_json(path)):
        try:
            (x, y), scale = np.array(entry['center'], float), float(entry['scale'])
            name = entry['image']
            joints, seen = entry.get('joints', [[0, 0]] * 16), entry.get('joints_vis', [0] * 16)
            points = np.column_stack([np.array(joints, float), np.array(seen, float)])
            points[:, :2] -= FIRST_PIXEL
            if points.shape != (16, 3) or not isinstance(name, str) or not 0 < scale < LARGEST:
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError):
            wrong.setdefault('entries: no center, scale, image or 16 joints', []).append(
                str(number)
            )
            continue
        if x == -1:
            continue
        side = PIXELS_PER_SCALE * scale
        box = (x - FIRST_PIXEL - side / 2, y + LOWERED * scale - FIRST_PIXEL - side / 2, side, side)
        columns.append((number, names.setdefault(name, len(names)), box, points))
    ids, images, boxes, keypoints = zip(*columns, strict=True) if columns else ((), (), (), ())
    return Sheet(
        path,
        {'name': 'person', 'keypoints': list(MPII_KEYPOINTS.names)},
        list(names.values()),
        np.zeros((len(names), 2)),
        list(names),
        np.array(ids, np.int64),
        np.array(images, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        np.full(len(ids), np.nan),
        np.array(keypoints, float).reshape(-1, 16, 3),
        wrong=wrong,
    )
