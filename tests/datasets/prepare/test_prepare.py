"""What cannot be prepared is named, and a second run is no more content than the first."""

import gzip
import io
import json
import tarfile

import pytest

from psa_pose.datasets.prepare import prepare
from psa_pose.errors import DataError
from tests.tools.test_prepare_data import coco_json, jpeg, mpii_entries, tarred


def refused(match, *args, **options):
    with pytest.raises(DataError, match=match):
        prepare(*args, say=lambda line: None, **options)


@pytest.mark.parametrize('content', ['[1]', '3', '{', 'null'])
def test_a_manifest_that_is_none(tmp_path, content):
    (tmp_path / 'manifest.json').write_text(content)
    refused(r'manifest\.json is not (a JSON object|JSON)', 'coco', tmp_path, check=True)


@pytest.mark.parametrize('name', [None, 5])
def test_an_image_without_a_file_name(tmp_path, name):
    content = json.loads(coco_json(2))
    content['images'][1]['file_name'] = name
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/person_keypoints_val2017.json').write_text(json.dumps(content))
    refused(r"val2017\.json: image \{'id': 2.* has no file_name", 'coco', tmp_path, check=True)


def test_a_broken_archive_leaves_nothing_for_the_next_run_to_find(tmp_path):
    archives, root = tmp_path / 'archives', tmp_path / 'mpii'
    images = {f'images/{i:09}.jpg': jpeg(i) for i in range(4)}
    packed = tarred(archives / 'mpii_human_pose_v1.tar.gz', images)
    plain = bytearray(gzip.decompress(packed.read_bytes()))
    plain[plain.index(b'\xff\xd8') + 100] ^= 1  # within the first image
    tail = packed.read_bytes()[-8:]  # the checksum of what it was before
    packed.write_bytes(gzip.compress(bytes(plain))[:-8] + tail)
    for name in ('mpii_train.json', 'mpii_val.json'):
        (archives / name).write_text(json.dumps(mpii_entries(4)))
    (archives / 'mpii_gt_val.mat').write_bytes(b'any')
    for _ in range(2):
        refused(r'v1\.tar\.gz is broken: CRC', 'mpii', root, archives=archives)
    assert not (root / 'images').exists()


def test_what_macos_puts_beside_files_is_left_out(tmp_path):
    archives, root = tmp_path / 'archives', tmp_path / 'mpii'
    images = {f'images/{i:09}.jpg': jpeg(i) for i in range(4)}
    junk = {'__MACOSX/images/._000000000.jpg': b'Mac OS X'}
    tarred(archives / 'mpii_human_pose_v1.tar.gz', {**images, **junk})
    entries = json.dumps(mpii_entries(4)).encode()
    field = {'mpii_train.json': entries, 'mpii_val.json': entries, 'mpii_gt_val.mat': b'any'}
    tarred(archives / 'mpii_annotations.tar', field)
    prepare('mpii', root, archives=archives, say=lambda line: None)
    assert sorted(path.name for path in (root / 'images').iterdir()) == [
        f'{i:09}.jpg' for i in range(4)
    ]


def test_a_link_in_place_of_an_image(tmp_path):
    archives, root = tmp_path / 'archives', tmp_path / 'mpii'
    archives.mkdir()
    with tarfile.open(archives / 'mpii_human_pose_v1.tar.gz', 'w:gz') as archive:
        link = tarfile.TarInfo('images/000000000.jpg')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(link, io.BytesIO())
    (archives / 'mpii_train.json').write_text(json.dumps(mpii_entries(1)))
    refused(r"'images/000000000\.jpg' is a link or device", 'mpii', root, archives=archives)
