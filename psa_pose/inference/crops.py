"""Persons cut out as an evaluation does: by the config's own pipeline, padding and codec."""

from typing import Any

import numpy as np
from mmengine.config import Config

from psa_pose.codecs import HeatmapCodec
from psa_pose.datasets.transforms import LoadImage
from psa_pose.datasets.transforms.affine import padded_box
from psa_pose.datasets.transforms.loading import MAX_MEGAPIXELS
from psa_pose.registry import TRANSFORMS, config_path
from psa_pose.structures import KeypointInfo, PoseBatch

_PIPELINE = ({'type': 'LoadImage'}, {'type': 'TopdownAffine'})
_PADDING = 1.25  # the field's, and `TopdownDataset`'s


class Cropper:
    """Cuts boxes out of images.

    Args:
        cfg: with the pipeline and padding of `test_dataloader.dataset`, or else `val_dataloader`'s;
            without either the field's.
        codec: says how large crops are, and how they are cut.
        info: the keypoints.

    Attributes:
        max_megapixels: that the pipeline allows of an image file.
    """

    def __init__(self, cfg: Config, codec: HeatmapCodec, info: KeypointInfo) -> None:
        name = 'test_dataloader' if 'test_dataloader' in cfg else 'val_dataloader'
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        self.padding = dataset.get('bbox_padding', _PADDING)
        self.codec, self.info = codec, info
        self.max_megapixels = MAX_MEGAPIXELS
        self.pipeline = []
        for i, entry in enumerate(dataset.get('pipeline') or _PIPELINE):
            with config_path(name), config_path('dataset'), config_path('pipeline'):
                transform = TRANSFORMS.build(entry, at=str(i))
            if isinstance(transform, LoadImage):  # the image is here already
                self.max_megapixels = transform.max_megapixels
            else:
                self.pipeline.append(transform)

    def __call__(self, image: np.ndarray, box: np.ndarray) -> PoseBatch:
        """A batch entry of arrays, without labels.

        Args:
            image: (H, W, 3) uint8, RGB.
            box: (4,) x1, y1, x2, y2 in pixels.
        """
        k = self.info.num_keypoints
        center, scale = padded_box(box, self.padding)
        results: dict[str, Any] = {
            'img': image,
            'img_size': (image.shape[1], image.shape[0]),
            'center': center,
            'scale': scale,
            'keypoints': np.zeros((k, 2)),
            'visible': np.zeros(k, np.float32),
            'input_size': self.codec.input_size,
            'unbiased_affine': self.codec.unbiased_affine,
            'flip_indices': np.array(self.info.flip_indices),
            'lower_body': self.info.lower_body,
        }
        for transform in self.pipeline:
            results = transform(results)
        fields: tuple[Any, ...] = (  # arrays here, tensors once collated
            results['crop'],
            results['keypoints'].astype(np.float32),
            results['visible'],
            results['to_image'].astype(np.float32),
            np.int64(0),
            np.bool_(True),
        )
        return PoseBatch(*fields)
