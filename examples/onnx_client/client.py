"""Poses of the persons in an image, with onnxruntime and NumPy alone.

    python client.py model.onnx image.jpg --box 120 40 180 400

`model.onnx` is what `psa-pose export CONFIG CHECKPOINT` writes. It says everything that is needed
here: its input's size, how persons are cut out of images, the names of its keypoints.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime


class PoseModel:
    """A file of `psa-pose export`, with decoding in its graph."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        said = self.session.get_modelmeta().custom_metadata_map
        if 'psa_pose' not in said:
            raise SystemExit(f'{path}: not a file of psa-pose export')
        self.about = json.loads(said['psa_pose'])
        if not self.about['decoded']:
            raise SystemExit(f'{path} gives heatmaps: export it with --decode')

    def predict(self, image, boxes):
        """Find the keypoints of persons.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4), x, y, width and height of each person in pixels of the image.

        Returns:
            Keypoints (N, K, 2), x and y in pixels of the image, and scores (N, K).
        """
        affines = [self.image_to_crop(box) for box in np.asarray(boxes, float)]
        crops = np.stack([self.cut(image, scale, offset) for scale, offset in affines])
        if not self.about['normalised']:
            mean, std = (np.array(self.about[key], np.float32) for key in ('mean', 'std'))
            crops = ((crops - mean) / std).transpose(0, 3, 1, 2)
        name = self.session.get_inputs()[0].name
        keypoints, scores = self.session.run(['keypoints', 'scores'], {name: crops})
        scale, offset = (np.stack(part)[:, None] for part in zip(*affines, strict=True))
        return (keypoints - offset) / scale, scores

    def image_to_crop(self, box):
        """Scale (2,) and offset (2,): a crop's pixel is `scale * pixel + offset`.

        The box grows by the padding and to the crop's shape, and fills the crop. Pixel centres are
        integers. Codecs of 'unbiased data processing' count intervals between pixels, one less.
        """
        size = np.array(self.about['input_size'], float)
        center, sides = box[:2] + box[2:] / 2, box[2:] * self.about['bbox_padding']
        ratio = size[0] / size[1]
        sides = np.maximum(sides, [sides[1] * ratio, sides[0] / ratio])
        size = size - self.about['unbiased_affine']
        scale = size / sides if self.about['unbiased_affine'] else np.full(2, size[0] / sides[0])
        return scale, size / 2 - scale * center

    def cut(self, image, scale, offset):
        """The crop (height, width, 3), uint8; black beyond the image."""
        width, height = self.about['input_size']
        crop = at_lines(image, (np.arange(height) - offset[1]) / scale[1], axis=0)
        crop = at_lines(crop, (np.arange(width) - offset[0]) / scale[0], axis=1)
        return np.rint(crop).astype(np.uint8)


def at_lines(image, positions, axis):
    """Rows (axis 0) or columns (1) at positions between pixels; interpolated, 0 beyond the ends."""
    length = image.shape[axis]
    positions = np.clip(positions, -1, length)
    low = np.minimum(np.floor(positions), length - 1)
    share = np.expand_dims(positions - low, [i for i in range(3) if i != axis])
    border = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    low, padded = low.astype(int) + 1, np.pad(image, border)
    return np.take(padded, low, axis) * (1 - share) + np.take(padded, low + 1, axis) * share


def read_image(path):
    """(H, W, 3) uint8, RGB; JPEG and its like are Pillow's business, arrays (.npy) NumPy's."""
    if path.suffix == '.npy':
        return np.load(path)
    try:
        from PIL import Image
    except ImportError:
        raise SystemExit(f'{path}: pip install pillow, or give an array as .npy') from None
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'))


def main():
    """Print persons as JSON, in COCO's result format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', type=Path)
    parser.add_argument('image', type=Path, help='a picture, or (H, W, 3) uint8 as .npy')
    parser.add_argument(
        '--box',
        nargs=4,
        type=float,
        action='append',
        metavar=('X', 'Y', 'WIDTH', 'HEIGHT'),
        help='of a person, as often as there are persons; default: the whole image',
    )
    args = parser.parse_args()
    model, image = PoseModel(args.model), read_image(args.image)
    boxes = args.box or [[0, 0, image.shape[1] - 1, image.shape[0] - 1]]  # pixel centres
    keypoints, scores = model.predict(image, boxes)
    points = np.concatenate([keypoints, scores[..., None]], -1)
    persons = [
        {'bbox': box, 'keypoints': row.ravel().tolist(), 'score': float(row[:, 2].mean())}
        for box, row in zip(boxes, points, strict=True)
    ]
    print(json.dumps({'names': model.about['keypoints'], 'persons': persons}))


if __name__ == '__main__':
    main()
