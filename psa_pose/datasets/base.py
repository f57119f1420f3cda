"""What all datasets of single persons share: a person's crop, reproducible, and bad images."""

import warnings
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform
from torch.utils.data import Dataset

from psa_pose.datasets.annotations import Persons
from psa_pose.datasets.image_names import check_image_names
from psa_pose.datasets.sampling import SampleKey
from psa_pose.datasets.transforms import RandomFlip
from psa_pose.datasets.transforms.affine import fix_aspect_ratio, padded_box
from psa_pose.errors import DataError
from psa_pose.registry import TRANSFORMS, config_path, known_keys
from psa_pose.structures import KeypointInfo, PoseBatch


class TopdownDataset(Dataset[PoseBatch]):
    """Persons of annotated images as crops; a subclass reads its file.

    Args:
        ann_file: the annotations, relative to `data_root`.
        data_root: folder of the dataset.
        data_prefix: `dict(img=...)`, the folder of the images, relative to `data_root`.
        pipeline: transforms, each a config.
        input_size: (width, height) of the crop; given by the codec, not by the config.
        bbox_padding: a person's box is grown by this factor.
        on_error: 'raise' stops at an image that cannot be read; 'skip' warns, leaves the person
            out of loss and results, and has it counted.
        seed: of the augmentation, which depends on (seed, epoch, person) and nothing else.
        unbiased_affine: how crops are cut, see `image_to_crop`; given by the codec likewise.

    Raises:
        DataError: the annotation file cannot be used or names an image outside the image folder, or
            that is not there.
    """

    KEYPOINTS: ClassVar[KeypointInfo | None] = None
    boxes = 'ground truth'
    """Where the persons' boxes come from; every result says it."""
    boxes_left_out = ''
    """Boxes that were left out, how many and why."""
    annotated = True
    """Whether there are annotations, and so something to measure against."""

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Mapping[str, Any]],
        input_size: tuple[int, int],
        data_root: str = '',
        data_prefix: Mapping[str, str] | None = None,
        bbox_padding: float = 1.25,
        on_error: str = 'raise',
        seed: int = 0,
        unbiased_affine: bool = False,
    ) -> None:
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', got '{on_error}'")
        self.data_root = Path(data_root)
        self.ann_file = self.data_root / ann_file
        self.image_root = image_folder(data_root, data_prefix)
        if not self.image_root.is_dir():
            raise DataError(f'image root {self.image_root} is not a folder')
        self.info: KeypointInfo
        self.persons: Persons
        self.info, self.persons = self._read()
        check_image_names(self.persons, self.ann_file, self.image_root)
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.bbox_padding = bbox_padding
        self.on_error = on_error
        self.seed = seed
        self.unbiased_affine = unbiased_affine
        self.pipeline = []
        for i, transform in enumerate(pipeline):
            with config_path('pipeline'):
                self.pipeline.append(TRANSFORMS.build(transform, at=str(i)))
        self._warn_without_sides(self.pipeline)
        self._flip_indices = np.array(self.info.flip_indices)
        self._lower_body = self.info.lower_body

    @abstractmethod
    def _read(self) -> tuple[KeypointInfo, Persons]:
        """Read `ann_file`."""

    @classmethod
    def keypoint_info(cls, ann_file: Path) -> KeypointInfo:
        """The dataset's keypoints without its persons: `KEYPOINTS`, or else from the file."""
        if cls.KEYPOINTS is None:
            raise NotImplementedError(f'{cls.__name__} needs KEYPOINTS or a keypoint_info')
        return cls.KEYPOINTS

    def __len__(self) -> int:
        return len(self.persons)

    def fingerprint(self) -> str:
        """A line for each field of the persons: the same for the same annotations."""
        lines = [f'{len(self)} persons', *self.info.names]
        for field in fields(self.persons):
            content = getattr(self.persons, field.name).tobytes()
            lines.append(f'{field.name} {zlib.crc32(content):08x}')
        return '\n'.join(lines)

    @property
    def image_ids(self) -> np.ndarray:
        """(P,) int64, the image of each person."""
        return self.persons.image_id

    def __getitem__(self, key: SampleKey | int) -> PoseBatch:
        """The person as a batch entry of arrays; see `PoseBatch` for shapes."""
        index, epoch, again = key if isinstance(key, SampleKey) else SampleKey(int(key))
        try:
            results = self._raw(index)
            results['epoch'], results['again'] = epoch, again
            if epoch is not None:
                results['rng'] = np.random.default_rng((self.seed, epoch, index))
            for transform in self.pipeline:
                results = transform(results)
        except DataError as error:
            if self.on_error == 'raise':
                raise
            warnings.warn(f'skipped: {error}', stacklevel=2)
            return self.blank(index)
        except StopIteration as error:  # would end the epoch here, as if it had no more persons
            raise RuntimeError('a transform raised StopIteration') from error
        return _sample(
            results['crop'],
            results['keypoints'].astype(np.float32),
            results['visible'],
            results['to_image'].astype(np.float32),
            np.int64(index),
            np.bool_(True),
        )

    def crop_scale(self, index: int | np.ndarray) -> np.ndarray:
        """(..., 2) width and height of what persons' crops show, in image pixels."""
        return fix_aspect_ratio(self._padded_box(index)[1], self.input_size)

    def _padded_box(self, index: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centre (..., 2) and padded width and height (..., 2) of boxes, in image pixels."""
        return padded_box(self.persons.bbox[index], self.bbox_padding)

    def _raw(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from."""
        persons = self.persons
        center, scale = self._padded_box(index)
        keypoints = persons.keypoints[index]
        return {
            'img_path': self.image_root / persons.file_name[index].decode(),
            'img_size': tuple(persons.image_size[index].tolist()),
            'center': center,
            'scale': scale,
            'keypoints': keypoints[:, :2].astype(np.float64),
            'visible': (keypoints[:, 2] > 0).astype(np.float32),
            'input_size': self.input_size,
            'unbiased_affine': self.unbiased_affine,
            'flip_indices': self._flip_indices,
            'lower_body': self._lower_body,
        }

    def blank(self, index: int) -> PoseBatch:
        """Stands in for a skipped person: weight 0 in the loss, left out of the results."""
        width, height = self.input_size
        k = self.info.num_keypoints
        return _sample(
            np.zeros((height, width, 3), np.uint8),
            np.zeros((k, 2), np.float32),
            np.zeros(k, np.float32),
            np.eye(2, 3, dtype=np.float32),
            np.int64(index),
            np.bool_(False),
        )

    def _warn_without_sides(self, pipeline: Sequence[BaseTransform]) -> None:
        mirrored = any(isinstance(transform, RandomFlip) for transform in pipeline)
        if mirrored and self.info.flip_indices == tuple(range(self.info.num_keypoints)):
            warnings.warn(
                f"{self.ann_file}: RandomFlip mirrors persons, but no keypoints are named 'left' "
                f"and 'right' of the same part: {list(self.info.names)}",
                stacklevel=3,
            )


def image_folder(data_root: str | Path, data_prefix: Mapping[str, str] | None) -> Path:
    """The images' folder, from a dataset's options."""
    return Path(data_root, known_keys(data_prefix, ('img',), 'data_prefix').get('img', ''))


def _sample(*fields: Any) -> PoseBatch:
    """One person: arrays here, tensors once collated."""
    return PoseBatch(*fields)
