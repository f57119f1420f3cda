"""Unpacking: whole files or none, nothing outside the folder, broken archives named."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from psa_pose.datasets.prepare.archives import Archive, digests, unpack, verify
from psa_pose.errors import DataError

CONTENT = {f'images/{i}.jpg': np.random.default_rng(i).bytes(20_000 + i) for i in range(5)}


def make(path, content=CONTENT):
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, 'w:gz' if path.suffix == '.gz' else 'w') as archive:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def everything(member):
    return str(member)


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


kinds = pytest.mark.parametrize('name', ['a.zip', 'a.tar', 'a.tar.gz'])


@kinds
def test_whole(tmp_path, name):
    assert unpack(make(tmp_path / name), tmp_path / 'root', everything) == (5, 0)
    assert files(tmp_path / 'root') == CONTENT


@kinds
def test_what_is_there_stays_and_what_is_cut_is_mended(tmp_path, name):
    root = tmp_path / 'root'
    archive = make(tmp_path / name)
    unpack(archive, root, everything)
    (root / 'images/1.jpg').write_bytes(CONTENT['images/1.jpg'][:100])
    (root / 'images/2.jpg').unlink()
    (root / 'images/.3.jpg.partial').write_bytes(b'from a run that was killed')
    os.utime(root / 'images/4.jpg', (1, 1))
    assert unpack(archive, root, everything) == (2, 3)
    assert (root / 'images/4.jpg').stat().st_mtime == 1
    assert {k: v for k, v in files(root).items() if not k.endswith('partial')} == CONTENT


@kinds
def test_only_what_is_wanted(tmp_path, name):
    wanted = 'images/3.jpg'
    unpack(
        make(tmp_path / name), tmp_path / 'root', lambda m: 'x.jpg' if str(m) == wanted else None
    )
    assert files(tmp_path / 'root') == {'x.jpg': CONTENT[wanted]}


@kinds
@pytest.mark.parametrize('evil', ['../evil.jpg', '/tmp/evil.jpg', 'a/../../evil.jpg', 'a\\..\\e'])
def test_nothing_lands_outside(tmp_path, name, evil):
    archive = make(tmp_path / name, {evil: b'x'})
    with pytest.raises(DataError, match='outside'):
        unpack(archive, tmp_path / 'deep' / 'root', everything)
    assert not list(tmp_path.rglob('evil*'))


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, 'zip'])
def test_a_link_or_device_where_a_file_is_wanted_is_named(tmp_path, kind):
    path = tmp_path / ('a.zip' if kind == 'zip' else 'a.tar')
    if kind == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            info = zipfile.ZipInfo('images/1.jpg')
            info.external_attr = 0o120777 << 16
            archive.writestr(info, '/etc/passwd')
    else:
        with tarfile.open(path, 'w') as archive:
            link = tarfile.TarInfo('images/1.jpg')
            link.type, link.linkname = kind, '/etc/passwd'
            archive.addfile(link)
    with pytest.raises(DataError, match=rf"{path.name}: 'images/1\.jpg' is a link or device"):
        unpack(path, tmp_path / 'root', everything)
    assert not (tmp_path / 'root').exists()


def test_a_link_to_a_folder_is_not_followed(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        link = tarfile.TarInfo('images')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc'
        archive.addfile(link)
        info = tarfile.TarInfo('images/1.jpg')
        info.size = 3
        archive.addfile(info, io.BytesIO(b'abc'))
    unpack(tmp_path / 'a.tar', tmp_path / 'root', lambda m: str(m) if m.suffix else None)
    assert files(tmp_path / 'root') == {'images/1.jpg': b'abc'}
    assert not (tmp_path / 'root/images').is_symlink()


@kinds
@pytest.mark.parametrize('share', [0.3, 0.9])
def test_a_cut_off_archive_is_named_and_leaves_whole_files(tmp_path, name, share):
    archive = make(tmp_path / name)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    if name == 'a.tar' and share == 0.9:  # within the padding of the last block
        archive.write_bytes(data[: 512 * 180])
    with pytest.raises(DataError, match=archive.name):
        unpack(archive, tmp_path / 'root', everything)
    for path, content in files(tmp_path / 'root').items() if (tmp_path / 'root').is_dir() else ():
        assert content == CONTENT[path]


@pytest.mark.parametrize('name', ['a.zip', 'a.tar.gz'])
def test_a_flipped_bit_is_found(tmp_path, name):
    archive = make(tmp_path / name)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match=rf'{archive.name} is broken'):
        unpack(archive, tmp_path / 'root', everything)


def test_gzip_s_checksum_is_read_before_anything_is_written(tmp_path):
    """Else the next run would find every file there in full size, and be content."""
    plain = make(tmp_path / 'a.tar').read_bytes()
    packed = bytearray(gzip.compress(plain))
    packed[-6] ^= 1
    (tmp_path / 'a.tar.gz').write_bytes(packed)
    with pytest.raises(DataError, match='CRC'):
        unpack(tmp_path / 'a.tar.gz', tmp_path / 'root', everything)
    assert not (tmp_path / 'root').exists()


def test_zips_that_cannot_be_read_are_named(tmp_path):
    path = make(tmp_path / 'a.zip')
    whole = path.read_bytes()
    directory = whole.index(b'PK\x01\x02')
    for offset, value, match in ((8, 1, 'encrypted'), (10, 99, 'not supported')):
        data = bytearray(whole)
        data[directory + offset] = value  # flags, then the way of packing
        if offset == 8:
            data[whole.index(b'PK\x03\x04') + 6] = value
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf'a\.zip cannot be read: .*{match}'):
            unpack(path, tmp_path / 'root', everything)


def test_no_archive_at_all(tmp_path):
    (tmp_path / 'a.zip').write_text('<html>404</html>')
    with pytest.raises(DataError, match=r'a\.zip is no zip or tar archive'):
        unpack(tmp_path / 'a.zip', tmp_path, everything)


def test_sizes_and_checksums(tmp_path):
    path = tmp_path / 'a b.zip'
    path.write_bytes(b'abc')
    found = digests(path)
    assert found == {
        'size': 3,
        'md5': '900150983cd24fb0d6963f7d28e17f72',
        'sha256': 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    }

    def archive(**known):
        return Archive(path.name, 'http://host/a', everything, **known)

    assert verify(path, archive()) == found
    assert verify(path, archive(size=3, md5=found['md5'])) == found
    with pytest.raises(DataError, match=r"3 bytes, the published one 4.*curl .*'.*a b\.zip' http"):
        verify(path, archive(size=4))
    with pytest.raises(DataError, match=r'3 bytes, the published one 2.*Delete it, then: curl'):
        verify(path, archive(size=2))
    with pytest.raises(DataError, match=r'has MD5 9001.*, the published one 00.*Delete it, then'):
        verify(path, archive(size=3, md5='00'))
