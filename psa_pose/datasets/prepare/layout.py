"""What COCO and MPII consist of, and what of it is there."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from psa_pose.datasets.annotations import read_json
from psa_pose.datasets.mpii import read_mpii_json
from psa_pose.datasets.prepare.archives import Archive, Place, digests
from psa_pose.errors import DataError

Annotations = Callable[[Path], tuple[list[str], int]]
"""Reads an annotation file: its images' names, and how many persons it has."""


@dataclass(frozen=True)
class Images:
    """Images that annotation files list.

    Attributes:
        folder: relative to the root.
        listed_by: annotation files; those that are there count.
    """

    folder: str
    listed_by: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Something that one archive brings.

    Attributes:
        what: for people.
        archive: None where none is published at a lasting address; `source` then says more.
        files: that must be there, or `images`.
        images: see there.
        optional: is not missed.
        source: where people find it, if not in an archive.
    """

    what: str
    archive: Archive | None = None
    files: tuple[str, ...] = ()
    images: Images | None = None
    optional: bool = False
    source: str = ''


@dataclass(frozen=True)
class Layout:
    """A dataset.

    Attributes:
        name: as on the command line.
        page: where people read about it and its licence.
        parts: annotations before the images that they list.
        read: its annotation files.
        published: entries of the published annotation files, (images or entries).
    """

    name: str
    page: str
    parts: tuple[Part, ...]
    read: Annotations
    published: dict[str, int]


def _by_name(*names: str, **aliases: str) -> Place:
    """Annotation files go to `annotations/`, from whatever folder they stand in."""
    known = {name: name for name in names} | {v: k.replace('__', '.') for k, v in aliases.items()}

    def place(member: PurePosixPath) -> str | None:
        name = known.get(member.name)
        return name and f'annotations/{name}'

    return place


def _in_folder(folder: str) -> Place:
    """JPEGs of a folder of this name."""

    def place(member: PurePosixPath) -> str | None:
        inside = member.parent.name == folder and member.suffix.lower() in ('.jpg', '.jpeg')
        inside &= not member.name.startswith('.')  # macOS packs a `._name` beside each file
        return f'{folder}/{member.name}' if inside else None

    return place


def _read_coco(path: Path) -> tuple[list[str], int]:
    content = read_json(path)
    for image in content['images']:
        if not isinstance(image.get('file_name'), str):
            raise DataError(f'{path}: image {image} has no file_name')
    return [image['file_name'] for image in content['images']], len(content['annotations'])


def _read_mpii(path: Path) -> tuple[list[str], int]:
    content = read_mpii_json(path)
    return sorted({str(entry['image']) for entry in content if 'image' in entry}), len(content)


_COCO_URL = 'http://images.cocodataset.org'
_COCO_JSON = ('person_keypoints_train2017.json', 'person_keypoints_val2017.json')
_DETECTIONS = 'COCO_val2017_detections_AP_H_56_person.json'


def _coco_images(split: str, size: int, md5: str) -> Part:
    folder = f'{split}2017'
    return Part(
        f'{split} images',
        Archive(f'{folder}.zip', f'{_COCO_URL}/zips/{folder}.zip', _in_folder(folder), size, md5),
        images=Images(folder, (f'annotations/person_keypoints_{folder}.json',)),
    )


COCO = Layout(
    'coco',
    'https://cocodataset.org/#download',
    (
        Part(
            'annotations',
            Archive(
                'annotations_trainval2017.zip',
                f'{_COCO_URL}/annotations/annotations_trainval2017.zip',
                _by_name(*_COCO_JSON),
                252907541,
                'f4bbac642086de4f52a3fdda2de5fa2c',
            ),
            tuple(f'annotations/{name}' for name in _COCO_JSON),
        ),
        _coco_images('val', 815585330, '442b8da7639aecaf257c1dceb8ba8c80'),
        _coco_images('train', 19336861798, 'cced6f7f71b7629ddf16f17bbcfab6b2'),
        Part(
            "the field's person detections (for AP with a detector's boxes)",
            files=(f'person_detection_results/{_DETECTIONS}',),
            optional=True,
            source='see the README of github.com/leoxiaobin/deep-high-resolution-net.pytorch',
        ),
    ),
    _read_coco,
    {
        'annotations/person_keypoints_train2017.json': 118287,
        'annotations/person_keypoints_val2017.json': 5000,
    },
)

_MPII_URL = 'https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr'
OFFICIAL_MAT = 'annotations/mpii_human_pose_v1_u12_1.mat'
MPII_TRUTH = 'annotations/mpii_gt_val.mat'
MPII_JSON = tuple(
    f'annotations/mpii_{split}.json' for split in ('train', 'val', 'trainval', 'test')
)

MPII = Layout(
    'mpii',
    'http://human-pose.mpi-inf.mpg.de/#download',
    (
        Part(
            "annotations in the field's layout",
            Archive(
                'mpii_annotations.tar',
                'https://download.openmmlab.com/mmpose/datasets/mpii_annotations.tar',
                _by_name(
                    *(Path(name).name for name in MPII_JSON),
                    Path(MPII_TRUTH).name,
                    mpii_gt_val__mat='gt_valid.mat',  # as HRNet's repository names it
                ),
            ),
            (MPII_JSON[0], MPII_JSON[1], MPII_TRUTH),
        ),
        Part(
            'official annotations (to convert where the above are not at hand)',
            Archive(
                'mpii_human_pose_v1_u12_2.zip',
                f'{_MPII_URL}/mpii_human_pose_v1_u12_2.zip',
                _by_name(Path(OFFICIAL_MAT).name),
            ),
            (OFFICIAL_MAT,),
            optional=True,
        ),
        Part(
            'images',
            Archive(
                'mpii_human_pose_v1.tar.gz',
                f'{_MPII_URL}/mpii_human_pose_v1.tar.gz',
                _in_folder('images'),
            ),
            images=Images('images', MPII_JSON[:3]),
        ),
        # Nothing is trained or measured on them.
        Part('test images', images=Images('images', MPII_JSON[3:]), optional=True),
    ),
    _read_mpii,
    {'annotations/mpii_train.json': 22246, 'annotations/mpii_val.json': 2958},
)

LAYOUTS = {layout.name: layout for layout in (COCO, MPII)}


class Inspector:
    """What of a dataset is there; annotation files are read once."""

    def __init__(self, layout: Layout, root: Path) -> None:
        self.layout, self.root = layout, root
        self._read: dict[str, tuple[tuple[int, int], tuple[list[str], int]]] = {}

    def annotations(self, name: str) -> tuple[list[str], int]:
        """Names of the images, and number of persons, of an annotation file that is there."""
        status = (self.root / name).stat()
        state = (status.st_mtime_ns, status.st_size)
        if name not in self._read or self._read[name][0] != state:
            self._read[name] = (state, self.layout.read(self.root / name))
        return self._read[name][1]

    def missing(self, part: Part) -> tuple[list[str], int] | None:
        """Files of a part that are not there (or empty), and of how many; None: nobody knows."""
        if part.images is None:
            wanted = list(part.files)
            return [name for name in wanted if not _is_filled(self.root / name)], len(wanted)
        lists = [name for name in part.images.listed_by if (self.root / name).is_file()]
        if not lists:
            return None
        names = sorted({image for name in lists for image in self.annotations(name)[0]})
        sizes = self.sizes(part.images.folder)
        wanted = [f'{part.images.folder}/{name}' for name in names]
        # A name may have folders of its own, which a listing of the one folder does not show.
        there = (
            sizes.get(n) or ('/' in n and _is_filled(self.root / w))
            for n, w in zip(names, wanted, strict=True)
        )
        return [w for w, is_there in zip(wanted, there, strict=True) if not is_there], len(wanted)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file of a folder."""
        path = self.root / folder
        if not path.is_dir():
            return {}
        with os.scandir(path) as entries:
            return {e.name: e.stat().st_size for e in entries if not e.name.startswith('.')}

    def describe(self) -> dict[str, Any]:
        """What a manifest records: digests of the annotations, names and sizes of the images."""
        files, images = {}, {}
        for part in self.layout.parts:
            lists = (*part.files, *(part.images.listed_by if part.images else ()))
            for name in lists:
                if (self.root / name).is_file() and name not in files:
                    found = digests(self.root / name)
                    files[name] = {'size': found['size'], 'sha256': found['sha256']}
            if part.images is not None:
                sizes = self.sizes(part.images.folder)
                listing = '\n'.join(f'{name} {size}' for name, size in sorted(sizes.items()))
                images[part.images.folder] = {
                    'files': len(sizes),
                    'bytes': sum(sizes.values()),
                    'names_and_sizes_sha256': hashlib.sha256(listing.encode()).hexdigest(),
                }
        return {'dataset': self.layout.name, 'files': files, 'images': images}


def differences(recorded: Any, found: Any, path: str = '') -> list[str]:
    """What a manifest says otherwise than is found, one line for each value."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        return [
            line
            for key in recorded
            for line in differences(recorded[key], found.get(key), f'{path} {key}'.strip())
        ]
    return [] if recorded == found else [f'{path}: recorded {recorded}, found {found}']


def _is_filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
