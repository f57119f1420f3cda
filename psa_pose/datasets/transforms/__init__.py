"""Transforms of one person: only `LoadImage` reads a file, only `TopdownAffine` touches pixels."""

from psa_pose.datasets.transforms.affine import TopdownAffine, crop_to_image, image_to_crop
from psa_pose.datasets.transforms.augment import RandomBBoxTransform, RandomFlip, RandomHalfBody
from psa_pose.datasets.transforms.loading import LoadImage, read_image

__all__ = [
    'LoadImage',
    'RandomBBoxTransform',
    'RandomFlip',
    'RandomHalfBody',
    'TopdownAffine',
    'crop_to_image',
    'image_to_crop',
    'read_image',
]
