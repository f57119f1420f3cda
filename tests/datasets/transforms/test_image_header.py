"""The size that a file claims: as decoders see it, and refused before they allocate it."""

import io
import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from psa_pose.datasets.transforms import LoadImage, read_image
from psa_pose.datasets.transforms.image_header import image_size
from psa_pose.errors import DataError
from tests.datasets.transforms.test_loading import JPEGS, PICTURE
from tests.handmade import picture
from tests.limited import outcome

WIDTH, HEIGHT = 53, 37
SMALL = picture(3, (WIDTH, HEIGHT))


def saved(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(SMALL).save(out, form, **options)
    return out.getvalue()


FILES = {
    'jpeg': saved('jpeg'),
    'jpeg, progressive': saved('jpeg', progressive=True),
    'jpeg, exif': saved('jpeg', exif=b'Exif\0\0II*\0' + b'\xff\xc0\0\x11\x08\0\x05\0\x06' * 4),
    'png': saved('png'),
    'bmp': saved('bmp'),
    'webp': saved('webp', quality=50),
    'webp, lossless': saved('webp', lossless=True),
    'webp, extended': saved('webp', exif=b'Exif\0\0II*\0'),
    'tiff': saved('tiff'),
    'gif': saved('gif'),
    'ppm': saved('ppm'),
}


def claiming(kind: str, size: int) -> bytes:
    """The file with another width and height in its header."""
    data = bytearray(FILES[kind])
    if kind.startswith('jpeg'):
        frame = max(data.rfind(b'\xff\xc0'), data.rfind(b'\xff\xc2'))
        data[frame + 5 : frame + 9] = struct.pack('>HH', size, size)
    elif kind == 'png':
        data[16:24] = struct.pack('>II', size, size)
    elif kind == 'bmp':
        data[18:26] = struct.pack('<ii', size, -size)
    elif kind == 'webp, extended':
        data[24:30] = 2 * struct.pack('<I', size - 1)[:3]
    return bytes(data)


CLAIMED = ['jpeg', 'jpeg, progressive', 'jpeg, exif', 'png', 'bmp', 'webp, extended']


@pytest.mark.parametrize('kind', FILES)
def test_the_size_is_the_one_that_is_decoded(kind, tmp_path) -> None:
    assert image_size(FILES[kind]) == (WIDTH, HEIGHT)
    (tmp_path / 'some').write_bytes(FILES[kind])
    if kind != 'gif':  # only the newest OpenCV reads it
        assert read_image(tmp_path / 'some').shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize('kind', JPEGS)
def test_thumbnails_and_restart_markers_do_not_deceive(kind) -> None:
    assert image_size(JPEGS[kind]) == PICTURE.shape[1::-1]


@pytest.mark.parametrize('kind', FILES)
def test_a_beginning_has_the_same_size_or_none(kind) -> None:
    for cut in range(len(FILES[kind])):
        assert image_size(FILES[kind][:cut]) in (None, (WIDTH, HEIGHT))


@pytest.mark.parametrize('kind', CLAIMED)
def test_60000_by_60000_is_refused(kind, tmp_path) -> None:
    path = tmp_path / 'bomb'
    path.write_bytes(claiming(kind, 60000))
    with pytest.raises(DataError, match=r'bomb claims to be 60000x60000 pixels, more than 100 mil'):
        read_image(path)


def test_the_limit_is_a_knob(tmp_path) -> None:
    path = tmp_path / 'some.png'
    path.write_bytes(FILES['png'])
    results = {'img_path': path, 'img_size': (0, 0)}
    assert LoadImage(max_megapixels=0.002).transform(dict(results))['img_size'] == (WIDTH, HEIGHT)
    with pytest.raises(DataError, match=r'claims to be 53x37 pixels, more than 0\.001 million'):
        LoadImage(max_megapixels=0.001).transform(dict(results))
    with pytest.raises(ValueError, match='max_megapixels must be above 0'):
        LoadImage(max_megapixels=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='measures in /proc')
def test_memory_is_not_even_asked_for(tmp_path) -> None:
    setup = """
    import cv2
    from psa_pose.datasets.transforms import read_image
    """
    for kind in ('jpeg', 'jpeg, progressive', 'png'):
        path = tmp_path / 'bomb'
        path.write_bytes(claiming(kind, 30000))  # 2.7 GB, and within OpenCV's own limit
        text = outcome(setup, f'read_image({str(path)!r})', limit_mb=300)
        assert '30000x30000' in text
    text = outcome(setup, f'read_image({str(path)!r}, 1e6).shape', limit_mb=300)
    assert 'corrupt' in text  # what it would be: OpenCV found no memory


def test_files_without_end_are_refused(tmp_path) -> None:
    with (tmp_path / 'sparse').open('wb') as file:
        file.truncate(2 << 30)
    with pytest.raises(DataError, match='sparse is a file of more than 1024 MiB'):
        read_image(tmp_path / 'sparse')


def test_pixels_are_untouched(tmp_path) -> None:
    (tmp_path / 'some.png').write_bytes(FILES['png'])
    assert np.array_equal(read_image(tmp_path / 'some.png'), SMALL)
    assert cv2.imread(str(tmp_path / 'some.png')).shape == SMALL.shape
