"""`psa-pose init-config`: a leaf config for a dataset in COCO's format, with its reasons."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.engine.check.images import require_images
from psa_pose.engine.check.leaf import Leaf, leaf_text
from psa_pose.engine.check.sheet import Sheet, read_sheet
from psa_pose.engine.config import config_roots
from psa_pose.errors import ConfigError, DataError, nearest
from psa_pose.files import write_text
from psa_pose.structures import KeypointInfo

VAL_SHARE = 0.1
GROWN = 0.1  # of the larger side, to each side of the box around keypoints: heads stand out
AREA = 0.53  # of a box is its person, in COCO's annotations
ATTENTION = {'': None, '_psa_p': 'parallel', '_psa_s': 'sequential'}


def init_config(
    ann: Path,
    images: Path,
    *,
    val_ann: Path | None = None,
    val_images: Path | None = None,
    out: Path | None = None,
    backbone: str = 'hrnet_w32_psa_p',
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Write a config, and annotation files where the given ones have to be split or completed.

    Args:
        ann: COCO-style JSON of persons to train on.
        images: the folder of its images.
        val_ann: of persons to evaluate on; otherwise a tenth of the images of `ann` is.
        val_images: the folder of its images; otherwise `images`.
        out: the config; otherwise `configs/<name of ann>.py`.
        backbone: one of the project's, with `_psa_p` or `_psa_s` for PSA.
        seed: of the split.
        force: overwrite.

    Returns:
        The config's path.

    Raises:
        ConfigError: unknown backbone, a file is there already, or it is one of the given ones.
        DataError: the annotations cannot be trained on.
    """
    base, layout = _choose(backbone)
    out = out or Path('configs', f'{ann.stem}.py')
    for folder in (images, *([val_images] if val_images else [])):
        if not folder.is_dir():
            raise DataError(f'image root {folder} is not a folder')
    sheet = _read(ann)
    val_sheet = _read(val_ann) if val_ann else None
    require_images(sheet, images, '--images')
    if val_sheet is not None:
        option = '--val-images' if val_images else '--images'
        require_images(val_sheet, val_images or images, option)
    info = KeypointInfo.from_category(sheet.category, str(ann))
    if val_sheet is not None:
        _check_same(info, val_sheet)
    files: dict[Path, str] = {}
    told = []
    if val_ann is None:
        held_out = _held_out(sheet, seed)
        parts = {'train': set(sheet.image_id) - held_out, 'val': held_out}
        paths = {name: out.with_name(f'{out.stem}.{name}.json') for name in parts}
        for name, kept in parts.items():
            files[paths[name]] = _rewritten(sheet, kept)
        how = f'by image, drawn with seed {seed}: {len(held_out)} of {len(sheet.image_id)}'
        told.append(f'split     {how} images are for evaluation')
        told.append('          frames of one video in both parts would flatter the numbers')
        train_file, val_file = paths['train'], paths['val']
    else:
        train_file, val_file = ann, val_ann
        for name, part in (('train', sheet), ('val', val_sheet)):
            if part is not None and _incomplete(part).any():
                path = out.with_name(f'{out.stem}.{name}.json')
                files[path] = _rewritten(part, set(part.image_id))
                train_file, val_file = (path, val_file) if name == 'train' else (train_file, path)
    made = sum(int(_incomplete(part).sum()) for part in (sheet, val_sheet) if part)
    if made:
        told.append(f'completed {made} persons without a box or area, from their keypoints')
    leaf = Leaf(
        source=str(ann),
        base=base,
        layout=layout,
        info=info,
        boxes=_boxes(sheet)[sheet.labelled.any(1)],
        persons=_trained(sheet, None if val_ann else held_out),
        train=(str(train_file), str(images)),
        val=(str(val_file), str(val_images or images)),
    )
    files[out] = leaf_text(leaf)
    given = {path.resolve() for path in (ann, val_ann) if path}
    for path in files:
        if path.resolve() in given:
            raise ConfigError(f'{path} is an input, and would be overwritten: name another --out')
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise ConfigError(f'{", ".join(there)}: there already; --force overwrites')
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        told.append(f'written   {path}')
    print('\n'.join(told))
    print(f'next      psa-pose check {_quoted(out)}, then psa-pose train {_quoted(out)}')
    return out


def _choose(backbone: str) -> tuple[str, str | None]:
    """The base file and PSA's layout."""
    models = {
        path.stem for root in config_roots() for path in (root / '_base_/models').glob('*.py')
    }
    for suffix, layout in reversed(ATTENTION.items()):
        if backbone.endswith(suffix) and backbone.removesuffix(suffix) in models:
            return backbone.removesuffix(suffix), layout
    known = [f'{model}{suffix}' for model in sorted(models) for suffix in ATTENTION]
    raise ConfigError(f"--backbone: no '{backbone}'; {nearest(backbone, known)}")


def _read(path: Path) -> Sheet:
    sheet = read_sheet(path)
    for fault in sheet.faults():
        raise DataError(f'{path}: {fault}: mend or remove them first')
    if not sheet.labelled.any():
        raise DataError(f'{path}: none of {len(sheet.id)} persons has a labelled keypoint')
    return sheet


def _check_same(info: KeypointInfo, val_sheet: Sheet) -> None:
    names = KeypointInfo.from_category(val_sheet.category, str(val_sheet.path)).names
    if names != info.names:
        raise DataError(
            f'{val_sheet.path}: its keypoints are {list(names)}, those to train on '
            f'{list(info.names)}: both need the same in the same order'
        )


def _held_out(sheet: Sheet, seed: int) -> set[Any]:
    """Ids of a tenth of the images that show labelled persons."""
    shown = sheet.labelled_images
    if len(shown) < 2:
        raise DataError(
            f'{sheet.path}: {len(shown)} image with labelled persons cannot be split; name another '
            'file with --val-ann'
        )
    count = max(round(VAL_SHARE * len(shown)), 1)
    drawn = np.random.default_rng(seed).permutation(shown)[:count]
    return {sheet.image_id[row] for row in drawn}


def _trained(sheet: Sheet, held_out: set[Any] | None) -> int:
    """How many persons there are to train on."""
    used = sheet.labelled.any(1)
    if held_out:
        used &= np.array([sheet.image_id[row] not in held_out for row in sheet.image])
    return int(used.sum())


def _incomplete(sheet: Sheet) -> np.ndarray:
    """(P,) bool: labelled, but without a box or an area."""
    lacks = np.isnan(sheet.bbox[:, 0]) | np.isnan(sheet.area)
    return lacks & sheet.labelled.any(1)


def _boxes(sheet: Sheet) -> np.ndarray:
    """(P, 4) x, y, width, height; made of keypoints where there are none."""
    labelled = sheet.labelled[..., None]
    low = np.where(labelled, sheet.keypoints[..., :2], np.inf).min(1)
    high = np.where(labelled, sheet.keypoints[..., :2], -np.inf).max(1)
    size = sheet.persons_size
    # A single keypoint has no extent: a twentieth of the image stands for it.
    margin = np.maximum((high - low).max(1) * GROWN, size.max(1) / 40)[:, None]
    low = np.maximum(low - margin, 0)
    high = np.where(size > 0, np.minimum(high + margin, size - 1), high + margin)
    made = np.concatenate([low, high - low], 1)
    return np.where(np.isnan(sheet.bbox[:, :1]), made, sheet.bbox)


def _rewritten(sheet: Sheet, kept: set[Any]) -> str:
    """The file with these images alone, and what its persons lack."""
    content = json.loads(sheet.path.read_bytes())
    rows = np.flatnonzero(_incomplete(sheet))
    boxes = _boxes(sheet).round(2)
    missing = {int(sheet.id[row]): boxes[row].tolist() for row in rows}
    content['images'] = [image for image in content['images'] if image.get('id') in kept]
    chosen = [entry for entry in content['annotations'] if entry.get('image_id') in kept]
    for entry in chosen:
        if (box := missing.get(entry['id'])) is None:
            continue
        if entry.get('bbox') is None:
            entry |= {'bbox': box, 'bbox_source': 'keypoints'}
        if entry.get('area') is None:
            _, _, width, height = entry['bbox']
            entry |= {'area': round(AREA * width * height, 2), 'area_source': 'box'}
    content['annotations'] = chosen
    return json.dumps(content) + '\n'


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
