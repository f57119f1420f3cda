"""Images come whole or not at all: a JPEG that was cut off never passes as grey."""

import struct

import cv2
import numpy as np
import pytest
import torch

from psa_pose.datasets import CocoStyleDataset, PoseDataLoader
from psa_pose.datasets.transforms import LoadImage, loading, read_image
from psa_pose.errors import DataError
from tests.handmade import picture


def jpeg_of(image, *options):
    return cv2.imencode('.jpg', image[..., ::-1], list(options))[1].tobytes()


def with_thumbnail(jpeg, thumbnail):
    """The JPEG with another one inside an EXIF segment, right after the start of the image."""
    payload = b'Exif\0\0' + b'II*\0' + b'\0' * 40 + thumbnail
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(payload) + 2) + payload + jpeg[2:]


AUGMENTATION = [{'type': f'Random{name}'} for name in ('Flip', 'HalfBody', 'BBoxTransform')]
PICTURE = picture(5, (160, 120))
PLAIN = jpeg_of(PICTURE)
PROGRESSIVE = jpeg_of(PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = jpeg_of(PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
SMALL = jpeg_of(picture(6, (32, 24)))
SMALL_PROGRESSIVE = jpeg_of(picture(6, (32, 24)), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
JPEGS = {
    'baseline': PLAIN,
    'progressive': PROGRESSIVE,
    'restart markers': RESTARTS,
    'thumbnail': with_thumbnail(PLAIN, SMALL),
    'progressive with thumbnail': with_thumbnail(PROGRESSIVE, SMALL),
    'progressive thumbnail': with_thumbnail(PLAIN, SMALL_PROGRESSIVE),
}


def read(tmp_path, data, name='some.jpg'):
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path)


def assert_no_cut_passes(tmp_path, jpeg, cuts):
    """Each beginning of the file is refused with its name, or decodes as the whole does."""
    whole = read(tmp_path, jpeg)
    refused = 0
    for cut in cuts:
        try:
            image = read(tmp_path, jpeg[:cut])
        except DataError as error:
            assert 'some.jpg' in str(error)
            refused += 1
        else:
            assert np.array_equal(image, whole), f'cut at {cut} of {len(jpeg)} bytes'
    assert refused >= len(cuts) - 2


class TestTruncated:
    @pytest.mark.parametrize('kind', JPEGS)
    def test_no_beginning_of_a_jpeg_passes(self, tmp_path, kind):
        jpeg = JPEGS[kind]
        step = max(1, len(jpeg) // 150)
        cuts = [*range(0, len(jpeg), step), *range(len(jpeg) - 20, len(jpeg))]
        assert_no_cut_passes(tmp_path, jpeg, cuts)

    def test_no_beginning_of_a_real_photo_passes(self, tmp_path, shared_data):
        photos = [
            *sorted((shared_data / 'coco_mini/images').rglob('*.jpg'))[:3],
            *sorted((shared_data / 'lspet/images').rglob('*.jpg'))[:2],
            *sorted((shared_data / 'mpii/images').rglob('*.jpg'))[:1],
        ]
        assert len(photos) == 6
        rng = np.random.default_rng(0)
        for photo in photos:
            jpeg = photo.read_bytes()
            cuts = [*rng.integers(0, len(jpeg), 25), len(jpeg) - 1, len(jpeg) - 3]
            assert_no_cut_passes(tmp_path, jpeg, cuts)

    @pytest.mark.parametrize('kind', JPEGS)
    def test_it_does_not_take_the_decoder_to_see_a_cut(self, tmp_path, kind, monkeypatch):
        # OpenCV 5 refuses what was cut off; OpenCV 4 fills it with grey and says nothing.
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.full_like(PICTURE, 128))
        jpeg = JPEGS[kind]
        own_picture = PROGRESSIVE if kind.startswith('progressive with') else PLAIN
        behind_headers = (
            len(jpeg) if kind in ('progressive', 'restart markers') else len(own_picture)
        )
        first = len(jpeg) - behind_headers + jpeg[-behind_headers:].find(b'\xff\xda') + 14
        for cut in np.linspace(first, len(jpeg) - 2, 100, dtype=int):
            with pytest.raises(DataError, match=r'some\.jpg is truncated'):
                read(tmp_path, jpeg[:cut])

    @pytest.mark.parametrize('kind', JPEGS)
    def test_whole_jpegs_pass(self, tmp_path, kind):
        assert read(tmp_path, JPEGS[kind]).shape == PICTURE.shape

    def test_a_thumbnail_changes_nothing(self, tmp_path):
        for kind in ('thumbnail', 'progressive thumbnail'):
            assert np.array_equal(read(tmp_path, JPEGS[kind]), read(tmp_path, PLAIN))

    @pytest.mark.parametrize(
        'trailer',
        [
            b'\0' * 100,
            b'\n',
            b'trailing text',
            SMALL,  # a preview behind the picture, as some cameras write
            b'\0\0\0\x18ftypmp42\xff\xda\xff\0',  # a film behind the picture, as phones write
        ],
        ids=['zeros', 'newline', 'text', 'preview', 'film'],
    )
    def test_bytes_behind_the_picture_are_fine(self, tmp_path, trailer):
        assert np.array_equal(read(tmp_path, PLAIN + trailer), read(tmp_path, PLAIN))

    def test_all_real_photos_pass(self, shared_data):
        for folder in ('coco_mini', 'mpii'):
            for photo in sorted((shared_data / folder / 'images').rglob('*.jpg'))[:40]:
                assert read_image(photo).ndim == 3


class TestDecoding:
    def test_colours_are_red_green_blue(self, tmp_path):
        image = np.zeros((16, 16, 3), np.uint8)
        image[...] = (250, 120, 10)
        from_png = read(tmp_path, cv2.imencode('.png', image[..., ::-1])[1].tobytes())
        assert from_png[0, 0].tolist() == [250, 120, 10]
        from_jpeg = read(tmp_path, jpeg_of(image))[8, 8].astype(int)
        assert np.abs(from_jpeg - [250, 120, 10]).max() <= 3  # YCbCr rounding

    def test_png_is_exact(self, tmp_path):
        png = cv2.imencode('.png', PICTURE[..., ::-1])[1].tobytes()
        assert np.array_equal(read(tmp_path, png, 'some.png'), PICTURE)

    def test_grey_and_transparent_images_have_three_channels(self, tmp_path):
        grey = PICTURE[..., 0]
        image = read(tmp_path, cv2.imencode('.png', grey)[1].tobytes())
        assert np.array_equal(image, np.repeat(grey[..., None], 3, 2))
        transparent = np.dstack([PICTURE[..., ::-1], grey])
        assert read(tmp_path, cv2.imencode('.png', transparent)[1].tobytes()).shape == PICTURE.shape

    def test_exif_orientation_is_ignored(self, tmp_path):
        # One IFD entry: tag 0x112 (orientation), SHORT, 1 value, 6 (turn by 90 degrees).
        entry = struct.pack('<HHIHH', 0x112, 3, 1, 6, 0)
        tiff = b'II*\0' + struct.pack('<IH', 8, 1) + entry + b'\0' * 4
        payload = b'Exif\0\0' + tiff
        jpeg = PLAIN[:2] + b'\xff\xe1' + struct.pack('>H', len(payload) + 2) + payload + PLAIN[2:]
        turned = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert turned.shape == (160, 120, 3)  # OpenCV alone does turn it
        assert np.array_equal(read(tmp_path, jpeg), read(tmp_path, PLAIN))

    def test_arrays_are_plain_memory(self, tmp_path):
        image = read(tmp_path, PLAIN)
        assert image.dtype == np.uint8
        assert image.flags['C_CONTIGUOUS']


class TestErrors:
    @pytest.mark.parametrize('data', [b'', b'\xff', b'\xff\xd8', b'<html>404</html>', b'\0' * 1000])
    def test_what_is_no_image_is_named(self, tmp_path, data):
        with pytest.raises(DataError, match=r'some\.jpg is (corrupt|truncated)'):
            read(tmp_path, data)

    def test_truncated_png_is_refused_or_whole(self, tmp_path):
        png = cv2.imencode('.png', PICTURE[..., ::-1])[1].tobytes()
        assert_no_cut_passes(tmp_path, png, range(0, len(png) - 20, len(png) // 60))

    def test_missing_files_and_folders(self, tmp_path):
        with pytest.raises(DataError, match=r'nowhere\.jpg: No such file'):
            read_image(tmp_path / 'nowhere.jpg')
        with pytest.raises(DataError, match='Is a directory'):
            read_image(str(tmp_path))

    def test_the_transform_adds_the_image(self, tmp_path):
        (tmp_path / 'a.jpg').write_bytes(PLAIN)
        results = LoadImage()(
            {
                'img_path': tmp_path / 'a.jpg',
                'img_size': PICTURE.shape[1::-1],
                'other': 1,
            }
        )
        assert results['img'].shape == PICTURE.shape
        assert results['other'] == 1


class TestSharing:
    """One decoding for the persons of an image, never another picture than without."""

    @pytest.fixture
    def decoded(self, monkeypatch):
        """Paths in the order in which they were decoded."""
        paths = []

        def counting(path, *limits):
            paths.append(path.name)
            return read_image(path, *limits)

        monkeypatch.setattr(loading, 'read_image', counting)
        return paths

    @pytest.fixture
    def ask(self, tmp_path):
        for name in 'ab':
            (tmp_path / f'{name}.jpg').write_bytes(jpeg_of(picture(ord(name))))

        def ask(load, name, epoch=0, again=False):
            results = {'img_path': tmp_path / f'{name}.jpg', 'img_size': (0, 0)}
            return load({**results, 'epoch': epoch, 'again': again})['img']

        return ask

    def test_kept_until_its_last_person(self, ask, decoded):
        load = LoadImage()
        images = [ask(load, 'a', again=more) for more in (True, True, False)]
        assert decoded == ['a.jpg']
        assert all(image is images[0] for image in images)
        ask(load, 'a')
        assert decoded == ['a.jpg'] * 2

    def test_images_do_not_change_places(self, ask, decoded):
        load = LoadImage()
        first = [ask(load, name, again=True) for name in 'ab']
        second = [ask(load, name) for name in 'ab']
        assert decoded == ['a.jpg', 'b.jpg']
        assert not np.array_equal(*first)
        assert all(map(np.array_equal, first, second))

    def test_what_a_broken_off_epoch_left_is_dropped(self, ask, decoded):
        load = LoadImage()
        ask(load, 'a', epoch=0, again=True)
        ask(load, 'b', epoch=1, again=True)
        ask(load, 'a', epoch=1)
        assert decoded == ['a.jpg', 'b.jpg', 'a.jpg']

    def test_no_more_than_allowed(self, ask, decoded, monkeypatch):
        monkeypatch.setattr(LoadImage, '_limit', lambda self: int(1.5 * picture(0).nbytes))
        load = LoadImage()
        for name in 'abab':
            ask(load, name, again=name == 'a')
        assert decoded == ['a.jpg', 'b.jpg', 'b.jpg']
        load = LoadImage()
        for name in 'abab':
            ask(load, name, again=True)  # b finds no room
        assert decoded[3:] == ['a.jpg', 'b.jpg', 'b.jpg']

    def test_switched_off(self, ask, decoded):
        load = LoadImage(cache=0)
        ask(load, 'a', again=True)
        ask(load, 'a')
        assert decoded == ['a.jpg'] * 2
        with pytest.raises(ValueError, match='cache'):
            LoadImage(cache=-1)

    def test_nobody_paints_on_what_others_will_see(self, ask):
        with pytest.raises(ValueError, match='read-only'):
            ask(LoadImage(), 'a')[:] = 0

    @pytest.mark.parametrize('workers', [0, 2])
    def test_the_model_sees_what_it_sees_without(self, shared_data, workers):
        streams = []
        for cache in (0, 512):
            dataset = CocoStyleDataset(
                'annotations/person_keypoints_train.json',
                [{'type': 'LoadImage', 'cache': cache}, *AUGMENTATION, {'type': 'TopdownAffine'}],
                (48, 64),
                data_root=str(shared_data / 'coco_mini'),
                data_prefix={'img': 'images/'},
            )
            loader = PoseDataLoader(dataset, 8, train=True, num_workers=workers)
            streams.append([batch for _ in range(2) for batch in loader])
        for without, shared in zip(*streams, strict=True):
            assert all(map(torch.equal, without, shared))
