"""MPII's .mat files made by hand, as MATLAB writes them."""

import numpy as np
from scipy.io import savemat

HEAD = {'x1': 10.0, 'y1': 11.0, 'x2': 30.0, 'y2': 41.0}
EMPTY = np.zeros((0, 0))


def points(*joints):
    """MATLAB's struct array of joints (id, x, y)."""
    kind = [(name, object) for name in ('x', 'y', 'id', 'is_visible')]
    rows = [(float(x), float(y), number, EMPTY) for number, x, y in joints]
    return {'point': np.array(rows, dtype=kind)[None]}


def person(joints=((0, 5, 6), (15, 7.5, 8.25)), **changes):
    whole = {
        **HEAD,
        'annopoints': points(*joints) if joints else EMPTY,
        'scale': 1.5,
        'objpos': {'x': 60.0, 'y': 70.0},
    }
    return {**whole, **changes}


def struct_array(persons):
    if not persons:
        return EMPTY
    names = sorted({key for each in persons for key in each})
    rows = [tuple(each.get(name, EMPTY) for name in names) for each in persons]
    return np.array(rows, dtype=[(name, object) for name in names])[None]


def write(path, images):
    """images: (name, whether to train on it, persons)."""
    annolist = np.array(
        [({'name': name}, struct_array(persons)) for name, _, persons in images],
        dtype=[('image', object), ('annorect', object)],
    )[None]
    flags = np.array([int(trains) for _, trains, _ in images])[None]
    savemat(path, {'RELEASE': {'annolist': annolist, 'img_train': flags, 'version': '12'}})
    return path


def write_truth(path, entries):
    joints = np.array([e['joints'] for e in entries])
    labelled = np.array([e['joints_vis'] for e in entries])
    boxes = np.array([e['headbox'] for e in entries], float).reshape(-1, 2, 2)
    savemat(
        path,
        {
            'pos_gt_src': np.moveaxis(joints, 0, -1) + 1e-5,
            'jnt_missing': (1 - labelled).T.astype(np.uint8),
            'headboxes_src': np.moveaxis(boxes, 0, -1) - 1e-5,
        },
    )
    return path
