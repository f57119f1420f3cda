"""Persons of COCO-style files as crops: right pixels, reproducible, and honest about bad images."""

import json

import cv2
import numpy as np
import pytest

from psa_pose.datasets import CocoDataset, CocoStyleDataset
from psa_pose.datasets.sampling import SampleKey
from psa_pose.datasets.transforms import read_image
from psa_pose.errors import ConfigError, DataError
from psa_pose.registry import DATASETS, config_path
from psa_pose.structures import COCO_KEYPOINTS
from tests.handmade import (
    CATEGORY,
    COARSE_WARP,
    IMAGE_SIZE,
    NAMES,
    coco_content,
    image_entry,
    person_entry,
    write_dataset,
)

PLAIN = [{'type': 'LoadImage'}, {'type': 'TopdownAffine'}]
AUGMENTED = [
    {'type': 'LoadImage'},
    {'type': 'RandomFlip'},
    {'type': 'RandomHalfBody', 'min_total_keypoints': 3},
    {'type': 'RandomBBoxTransform'},
    {'type': 'TopdownAffine'},
]
INPUT_SIZE = (48, 64)


def dataset_of(ann_file, cls=CocoStyleDataset, pipeline=PLAIN, input_size=INPUT_SIZE, **options):
    options.setdefault('data_root', str(ann_file.parent))
    return cls(ann_file.name, pipeline, input_size, **options)


def real(shared_data, folder, split, **options):
    name = {'coco_mini': 'person_keypoints', 'lspet': 'lspet'}[folder]
    cls = CocoDataset if folder == 'coco_mini' else CocoStyleDataset
    options = {'pipeline': PLAIN, 'input_size': (192, 256), **options}
    return cls(
        f'annotations/{name}_{split}.json',
        data_root=str(shared_data / folder),
        data_prefix={'img': 'images'},
        **options,
    )


@pytest.fixture
def three_persons(tmp_path):
    persons = [person_entry(i, image_id=i, bbox=[10 + i, 10, 60, 70]) for i in (1, 2, 3)]
    return write_dataset(tmp_path, coco_content(persons))


def spelled_out_crop(image, bbox, padding, crop_size):
    """The crop and for each of its pixels how much the image changes within a pixel around."""
    (x1, y1, x2, y2), (width, height) = bbox, crop_size
    shown_width = max((x2 - x1) * padding, (y2 - y1) * padding * width / height)
    step = shown_width / width  # image pixels a crop pixel
    x = (x1 + x2) / 2 + (np.arange(width) - width / 2) * step
    y = (y1 + y2) / 2 + (np.arange(height) - height / 2) * step
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[None, :, None], (y - y0)[:, None, None]

    def pixels(rows, columns):
        inside_y, inside_x = (
            (rows >= 0) & (rows < len(image)),
            (columns >= 0) & (columns < image.shape[1]),
        )
        values = image[np.clip(rows, 0, len(image) - 1)][:, np.clip(columns, 0, image.shape[1] - 1)]
        return values * (inside_y[:, None] & inside_x[None, :])[..., None].astype(float)

    top = pixels(y0, x0) * (1 - fx) + pixels(y0, x0 + 1) * fx
    bottom = pixels(y0 + 1, x0) * (1 - fx) + pixels(y0 + 1, x0 + 1) * fx
    return top * (1 - fy) + bottom * fy


class TestCrop:
    @pytest.mark.parametrize(
        ('folder', 'indices'), [('coco_mini', range(0, 80, 4)), ('lspet', range(0, 100, 10))]
    )
    def test_a_crop_is_the_padded_box_interpolated_bilinearly(self, shared_data, folder, indices):
        dataset = real(shared_data, folder, 'dev')
        for index in indices:
            image = read_image(dataset.image_root / dataset.persons.file_name[index].decode())
            box = dataset.persons.bbox[index].astype(float)
            expected = spelled_out_crop(image, box, 1.25, dataset.input_size)
            difference = np.abs(dataset[index].crop - expected)
            assert difference.max() <= (8 if COARSE_WARP else 2), (index, difference.max())

    def test_keypoints_and_affine_lead_back_to_the_annotation(self, shared_data):
        dataset = real(shared_data, 'coco_mini', 'dev', pipeline=AUGMENTED)
        flips = 0
        for index in range(0, 80, 5):
            for epoch in range(3):
                sample = dataset[SampleKey(index, epoch)]
                labels = dataset.persons.keypoints[index]
                back = sample.keypoints @ sample.to_image[:, :2].T + sample.to_image[:, 2]
                flipped = np.linalg.det(sample.to_image[:, :2]) < 0
                order = list(dataset.info.flip_indices) if flipped else slice(None)
                flips += flipped
                # float32 of positions up to 640 times a few operations
                np.testing.assert_allclose(back, labels[order, :2], atol=640 * 2**-20)
                np.testing.assert_array_equal(sample.visible, labels[order, 2] > 0)
        assert 10 < flips < 38  # of 48

    def test_shapes_and_dtypes(self, three_persons):
        sample = dataset_of(three_persons)[2]
        assert (sample.crop.shape, sample.crop.dtype) == ((64, 48, 3), np.uint8)
        assert (sample.keypoints.shape, sample.keypoints.dtype) == ((5, 2), np.float32)
        assert (sample.visible.tolist(), sample.visible.dtype) == ([1, 1, 1, 0, 1], np.float32)
        assert (sample.to_image.shape, sample.to_image.dtype) == ((2, 3), np.float32)
        assert (sample.person, sample.usable) == (2, True)

    def test_padding_grows_what_is_shown(self, three_persons):
        box = dataset_of(three_persons).persons.bbox[0]
        width, height = box[2] - box[0], box[3] - box[1]
        for padding in (1.0, 1.5):
            shown = dataset_of(three_persons, bbox_padding=padding).crop_scale(0)
            expected = max(width, height * 48 / 64) * padding
            np.testing.assert_allclose(shown, [expected, expected * 64 / 48])

    def test_reading_does_not_change_the_annotations(self, three_persons):
        dataset = dataset_of(three_persons, pipeline=AUGMENTED)
        before = [array.copy() for array in vars(dataset.persons).values()]
        for epoch in range(5):
            for i in range(3):
                dataset[SampleKey(i, epoch)]
        for a, b in zip(before, vars(dataset.persons).values(), strict=True):
            np.testing.assert_array_equal(a, b)


class TestDeterminism:
    def same(self, one, other):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    def test_a_sample_depends_on_seed_epoch_and_person_alone(self, three_persons):
        one = dataset_of(three_persons, pipeline=AUGMENTED, seed=5)
        other = dataset_of(three_persons, pipeline=AUGMENTED, seed=5)
        for key in [(2, 0), (1, 3), (0, 0)]:  # another order, other samples before
            other[SampleKey(*key)]
        np.random.seed(1)
        for key in [(0, 0), (1, 0), (2, 0), (1, 3)]:
            assert self.same(one[SampleKey(*key)], other[SampleKey(*key)])

    def test_epochs_differ(self, three_persons):
        dataset = dataset_of(three_persons, pipeline=AUGMENTED)
        crops = {dataset[SampleKey(0, epoch)].crop.tobytes() for epoch in range(20)}
        assert len(crops) == 20

    def test_seeds_differ(self, three_persons):
        datasets = [dataset_of(three_persons, pipeline=AUGMENTED, seed=s) for s in range(10)]
        assert len({dataset[SampleKey(0, 0)].crop.tobytes() for dataset in datasets}) == 10

    def test_persons_of_one_image_and_box_differ(self, tmp_path):
        persons = [person_entry(i, image_id=1) for i in (1, 2)]
        dataset = dataset_of(write_dataset(tmp_path, coco_content(persons)), pipeline=AUGMENTED)
        assert not np.array_equal(dataset[SampleKey(0, 0)].crop, dataset[SampleKey(1, 0)].crop)

    def test_evaluation_does_not_augment(self, three_persons):
        dataset = dataset_of(three_persons)
        assert self.same(dataset[1], dataset[1])
        assert self.same(dataset[1], dataset[SampleKey(1, 4)])  # an epoch alone changes nothing


class TestBadImages:
    def spoil(self, root, how):
        path = root / '2.png'
        if how == 'missing':
            path.unlink()
        elif how == 'not an image':
            path.write_bytes(b'<html>404</html>' * 50)
        elif how == 'empty':
            path.write_bytes(b'')
        else:
            jpeg = cv2.imencode('.jpg', cv2.imread(str(path)))[1].tobytes()
            path.write_bytes(jpeg[: len(jpeg) // 2])

    @pytest.mark.parametrize('how', ['missing', 'not an image', 'empty', 'truncated'])
    def test_raise_names_the_image(self, three_persons, how):
        self.spoil(three_persons.parent, how)
        dataset = dataset_of(three_persons, on_error='raise')
        assert dataset[0].usable
        with pytest.raises(DataError, match=r'2\.png'):
            dataset[1]

    @pytest.mark.parametrize('how', ['missing', 'not an image', 'empty', 'truncated'])
    @pytest.mark.parametrize('key', [1, SampleKey(1, 0)])
    def test_skip_warns_and_gives_a_blank(self, three_persons, how, key):
        self.spoil(three_persons.parent, how)
        dataset = dataset_of(three_persons, on_error='skip')
        with pytest.warns(UserWarning, match=r'2\.png'):
            blank = dataset[key]
        assert not blank.usable
        assert blank.person == 1
        assert blank.visible.sum() == 0
        good = dataset[0]
        for a, b in zip(good, blank, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)

    @pytest.mark.parametrize('size', [(240, 180), (90, 120), (60, 45)])
    def test_an_image_of_another_size_than_annotated_is_refused(self, three_persons, size):
        path = three_persons.parent / '2.png'
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), size))
        with pytest.raises(DataError, match=r'2\.png.*120'):
            dataset_of(three_persons)[1]


class TestKeypoints:
    def test_lspet_s_own(self, shared_data):
        dataset = real(shared_data, 'lspet', 'dev')
        path = shared_data / 'lspet/annotations/lspet_dev.json'
        category = json.loads(path.read_text())['categories'][0]
        assert len(dataset) == 500
        assert dataset.info.num_keypoints == 14
        assert dataset.info.names == tuple(category['keypoints'])
        assert dataset.info.sigmas == tuple(category['sigmas'])
        assert CocoStyleDataset.keypoint_info(path) == dataset.info
        assert dataset[0].keypoints.shape == (14, 2)

    def test_coco_dataset_knows_them_without_a_file(self, tmp_path):
        assert CocoDataset.keypoint_info(tmp_path / 'nowhere.json') == COCO_KEYPOINTS

    def test_coco_dataset_refuses_others_and_says_what_to_use(self, three_persons):
        with pytest.raises(DataError) as caught:
            dataset_of(three_persons, CocoDataset)
        message = str(caught.value)
        assert str(three_persons) in message
        assert "5 keypoints ['head'" in message
        assert 'CocoDataset has 17' in message
        assert "type='CocoStyleDataset'" in message

    def test_coco_dataset_refuses_coco_s_keypoints_in_another_order(self, tmp_path):
        category = {'id': 1, 'name': 'person', 'keypoints': list(COCO_KEYPOINTS.names[::-1])}
        person = person_entry(category_id=1, keypoints=[10, 10, 2] * 17)
        ann_file = write_dataset(tmp_path, coco_content([person], categories=[category]))
        with pytest.raises(DataError, match='CocoDataset has 17'):
            dataset_of(ann_file, CocoDataset)
        assert dataset_of(ann_file).info.sigmas_source == 'guessed'

    def test_coco_style_reads_names_of_a_file_without_sigmas(self, three_persons):
        info = dataset_of(three_persons).info
        assert info.names == NAMES
        assert info.sigmas_source == 'guessed'

    def test_the_file_s_sigmas(self, tmp_path):
        category = {**CATEGORY, 'sigmas': [0.1, 0.2, 0.2, 0.3, 0.3]}
        ann_file = write_dataset(tmp_path, coco_content(categories=[category]))
        info = dataset_of(ann_file).info
        assert (info.sigmas, info.sigmas_source) == ((0.1, 0.2, 0.2, 0.3, 0.3), 'dataset')


class TestArguments:
    def build(self, path, **changes):
        cfg = {
            'type': 'CocoStyleDataset',
            'ann_file': path.name,
            'data_root': str(path.parent),
            'pipeline': PLAIN,
            'input_size': INPUT_SIZE,
        }
        with config_path('train_dataloader'):
            return DATASETS.build({**cfg, **changes}, at='dataset')

    def test_from_a_config(self, three_persons):
        assert len(self.build(three_persons)) == 3

    def test_missing_image_folder_is_named(self, three_persons):
        with pytest.raises(DataError, match=r'image root .*/pictures is not a folder'):
            self.build(three_persons, data_prefix={'img': 'pictures'})

    def test_missing_annotation_file_is_named(self, three_persons):
        with pytest.raises(DataError, match=r'nowhere\.json'):
            self.build(three_persons, ann_file='nowhere.json')

    def test_on_error_is_checked(self, three_persons):
        with pytest.raises(ConfigError, match=r"train_dataloader\.dataset .*'raise' or 'skip'"):
            self.build(three_persons, on_error='ignore')

    def test_a_misspelt_transform_names_its_place(self, three_persons):
        pipeline = [*PLAIN[:1], {'type': 'RandomFlipp'}, *PLAIN[1:]]
        with pytest.raises(ConfigError) as caught:
            self.build(three_persons, pipeline=pipeline)
        message = str(caught.value)
        assert message.startswith('train_dataloader.dataset.pipeline.1: ')
        assert "did you mean 'RandomFlip'?" in message

    def test_a_misspelt_prefix_is_refused(self, three_persons):
        with pytest.raises((ConfigError, DataError)):
            self.build(three_persons, data_prefix={'imgs': 'pictures'})

    def test_a_random_transform_in_evaluation_says_so(self, three_persons):
        dataset = self.build(three_persons, pipeline=AUGMENTED)
        with pytest.raises((ConfigError, DataError), match=r'RandomFlip|random|evaluation'):
            dataset[0]

    def test_images_lie_below_the_image_root(self, tmp_path):
        content = coco_content(images=[image_entry(1, file_name='deep/er/1.png')])
        ann_file = write_dataset(tmp_path, content)
        sample = dataset_of(ann_file)[0]
        width, height = IMAGE_SIZE
        assert sample.crop.any()
        assert dataset_of(ann_file).persons.image_size.tolist() == [[width, height]]


def test_a_mirror_without_sides_is_warned_about(tmp_path):
    names = ['a', 'b', 'c', 'd', 'e']
    content = coco_content(categories=[{**CATEGORY, 'keypoints': names}])
    path = write_dataset(tmp_path, content)
    with pytest.warns(UserWarning, match='RandomFlip mirrors persons, but no keypoints'):
        dataset_of(path, pipeline=[{'type': 'LoadImage'}, {'type': 'RandomFlip'}])
