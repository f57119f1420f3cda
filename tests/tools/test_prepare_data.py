"""tools/prepare_data.py as people run it: on archives, on what is there, killed, over a network."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from psa_pose.datasets import CocoDataset, MpiiDataset
from psa_pose.structures import COCO_KEYPOINTS
from tests.conftest import ROOT
from tests.handmade import picture
from tests.mpii_mat import person, write, write_truth

PLAIN = [{'type': 'LoadImage'}, {'type': 'TopdownAffine'}]


def jpeg(seed=0, size=(120, 90)):
    return cv2.imencode('.jpg', picture(seed, size))[1].tobytes()


def zipped(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tarred(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w:gz' if path.name.endswith('gz') else 'w') as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def coco_json(count, first=1):
    ids = range(first, first + count)
    category = {'id': 1, 'name': 'person', 'keypoints': list(COCO_KEYPOINTS.names)}
    return json.dumps(
        {
            'images': [
                {'id': i, 'file_name': f'{i:012}.jpg', 'width': 120, 'height': 90} for i in ids
            ],
            'annotations': [
                {
                    **{'id': i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'area': 900.0},
                    'bbox': [20, 10, 60, 70],
                    'keypoints': [40, 40, 2] * 17,
                }
                for i in ids
            ],
            'categories': [category],
        }
    ).encode()


def coco_archives(folder, train=4, val=2):
    images = {i: jpeg(i) for i in range(1, train + val + 1)}
    zipped(
        folder / 'annotations_trainval2017.zip',
        {
            'annotations/person_keypoints_train2017.json': coco_json(train),
            'annotations/person_keypoints_val2017.json': coco_json(val, train + 1),
            'annotations/captions_val2017.json': b'{}',
        },
    )
    for split, ids in (('train', range(1, train + 1)), ('val', range(train + 1, train + val + 1))):
        zipped(
            folder / f'{split}2017.zip',
            {f'{split}2017/{i:012}.jpg': images[i] for i in ids},
        )
    return folder


def mpii_entries(count, first=0):
    joints = np.random.default_rng(first).integers(5, 80, (count, 16, 2)).astype(float)
    return [
        {
            'image': f'{first + i:09}.jpg',
            'center': [60.0, 40.0],
            'scale': 0.3,
            'joints': joints[i].tolist(),
            'joints_vis': [1] * 16,
            'headbox': [1.0 + i, 2.0, 30.0, 40.0],
        }
        for i in range(count)
    ]


def said(done, *parts):
    assert 'Traceback' not in done.stderr, done.stderr
    for part in parts:
        assert part in done.stdout + done.stderr, done.stdout + done.stderr


class TestCoco:
    def test_from_archives_then_again(self, tmp_path, run_tool):
        archives, root = coco_archives(tmp_path / 'my archives'), tmp_path / 'coco'
        done = run_tool('prepare_data', 'coco', root, '--archives', archives, '--unverified')
        assert done.returncode == 0, done.stderr
        said(done, '4 in train2017/', '2 in val2017/', 'the published file: 118287', 'complete')
        assert sorted(p.name for p in (root / 'annotations').iterdir()) == [
            'person_keypoints_train2017.json',
            'person_keypoints_val2017.json',
        ]
        dataset = CocoDataset(
            'annotations/person_keypoints_train2017.json',
            PLAIN,
            (48, 64),
            str(root),
            {'img': 'train2017'},
        )
        assert dataset[3].usable
        manifest = json.loads((root / 'manifest.json').read_text())
        assert manifest['images']['train2017']['files'] == 4
        assert len(manifest['archives']['train2017.zip']['sha256']) == 64

        shutil.rmtree(archives)  # a second run needs none of them
        before = {p: p.stat().st_mtime_ns for p in root.rglob('*.jpg')}
        done = run_tool('prepare_data', 'coco', root)
        assert done.returncode == 0, done.stderr
        assert before == {p: p.stat().st_mtime_ns for p in root.rglob('*.jpg')}
        assert json.loads((root / 'manifest.json').read_text()) == manifest

        (root / 'val2017/000000000005.jpg').write_bytes(jpeg(9))
        done = run_tool('prepare_data', 'coco', root, '--check')
        assert done.returncode == 1
        said(done, 'is not what', 'images val2017 bytes: recorded')

    def test_what_is_missing_and_how_to_get_it(self, tmp_path, run_tool):
        archives, root = coco_archives(tmp_path / 'archives'), tmp_path / 'coco'
        (archives / 'train2017.zip').unlink()
        done = run_tool('prepare_data', 'coco', root, '--archives', archives, '--unverified')
        assert done.returncode == 1
        said(
            done,
            'train images: 4 of 4 files missing: train2017/000000000001.jpg',
            f'curl -L --create-dirs -C - -o {archives}/train2017.zip '
            'http://images.cocodataset.org/zips/train2017.zip',
            f'then: python tools/prepare_data.py coco {root} --archives {archives}',
        )
        assert 'val images:' not in done.stderr
        assert not (root / 'manifest.json').exists()

    def test_published_sizes_are_checked(self, tmp_path, run_tool):
        archives = coco_archives(tmp_path / 'archives')
        done = run_tool('prepare_data', 'coco', tmp_path / 'coco', '--archives', archives)
        assert done.returncode == 1
        said(done, 'annotations_trainval2017.zip has', 'bytes, the published one 252907541')
        assert not (tmp_path / 'coco/annotations').exists()

    def test_check_changes_nothing(self, tmp_path, run_tool):
        archives, root = coco_archives(tmp_path / 'archives'), tmp_path / 'coco'
        done = run_tool('prepare_data', 'coco', root, '--archives', archives, '--check')
        assert done.returncode == 1
        said(done, f'to be unpacked from {archives}/val2017.zip')
        assert not root.exists()

    def test_files_already_there(self, tmp_path, run_tool):
        root = tmp_path / 'coco'
        for archive in coco_archives(tmp_path / 'archives').iterdir():
            zipfile.ZipFile(archive).extractall(root)
        (root / 'val2017/000000000006.jpg').write_bytes(b'')
        done = run_tool('prepare_data', 'coco', root)
        assert done.returncode == 1
        said(done, 'val images: 1 of 2 files missing: val2017/000000000006.jpg')
        (root / 'val2017/000000000006.jpg').write_bytes(jpeg(6))
        assert run_tool('prepare_data', 'coco', root).returncode == 0

    def test_a_broken_archive_is_named(self, tmp_path, run_tool):
        archives = coco_archives(tmp_path / 'archives')
        data = bytearray((archives / 'val2017.zip').read_bytes())
        data[len(data) // 2] ^= 255
        (archives / 'val2017.zip').write_bytes(data)
        done = run_tool(
            'prepare_data', 'coco', tmp_path / 'coco', '--archives', archives, '--unverified'
        )
        assert done.returncode == 1
        said(done, 'val2017.zip is broken')

    def test_killed_while_unpacking(self, tmp_path, run_tool):
        """No half file under its own name, and the next run completes what is missing."""
        count, root = 600, tmp_path / 'coco'
        archives = coco_archives(tmp_path / 'archives')
        big = jpeg(1, (640, 480)) + bytes(200_000)
        names = [f'{i:012}.jpg' for i in range(1, count + 1)]
        zipped(
            archives / 'annotations_trainval2017.zip',
            {
                'annotations/person_keypoints_train2017.json': coco_json(count),
                'annotations/person_keypoints_val2017.json': coco_json(2, 5),
            },
        )
        zipped(archives / 'train2017.zip', {f'train2017/{name}': big for name in names})
        command = [sys.executable, str(ROOT / 'tools/prepare_data.py'), 'coco', str(root)]
        command += ['--archives', str(archives), '--unverified']
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        folder = root / 'train2017'
        deadline = time.monotonic() + 60
        while not (folder.is_dir() and len(os.listdir(folder)) >= 20):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = [p for p in folder.iterdir() if not p.name.startswith('.')]
        assert 0 < len(done) < count
        assert {p.stat().st_size for p in done} == {len(big)}
        stamps = {p: p.stat().st_mtime_ns for p in done}

        again = run_tool('prepare_data', 'coco', root, '--archives', archives, '--unverified')
        assert again.returncode == 0, again.stderr
        said(again, f'{count - len(done)} files, {len(done)} were there already')
        assert sorted(p.name for p in folder.iterdir()) == names  # and nothing else
        assert {p: p.stat().st_mtime_ns for p in done} == stamps
        assert (folder / names[-1]).read_bytes() == big


class TestMpii:
    def archives(self, folder, field=True, official=True):
        train, val = mpii_entries(4), mpii_entries(2, 4)
        tarred(
            folder / 'mpii_human_pose_v1.tar.gz',
            {f'images/{e["image"]}': jpeg(i) for i, e in enumerate(train + val)},
        )
        truth = write_truth(folder / 'truth.mat', val).read_bytes()
        (folder / 'truth.mat').unlink()
        if field:
            plain = [{k: v for k, v in e.items() if k != 'headbox'} for e in train + val]
            tarred(
                folder / 'mpii_annotations.tar',
                {
                    './mpii_train.json': json.dumps(plain[:4]).encode(),
                    './mpii_val.json': json.dumps(plain[4:]).encode(),
                    './gt_valid.mat': truth,
                },
            )
        if official:
            images = []
            for e in train + val:
                box = dict(zip(('x1', 'y1', 'x2', 'y2'), e['headbox'], strict=True))
                joints = [(k, *xy) for k, xy in enumerate(e['joints'])]
                images.append((e['image'], 1, [person(joints=joints, **box)]))
            images.append(('000000009.jpg', 0, [person(joints=())]))
            write(folder / 'official.mat', images)
            name = 'mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat'
            zipped(
                folder / 'mpii_human_pose_v1_u12_2.zip',
                {name: (folder / 'official.mat').read_bytes()},
            )
            (folder / 'official.mat').unlink()
        return folder, truth

    def prepared(self, tmp_path, run_tool, **kinds):
        folder = tmp_path / 'archives'
        folder.mkdir()
        _, truth = self.archives(folder, **kinds)
        return run_tool('prepare_data', 'mpii', tmp_path / 'mpii', '--archives', folder), truth

    def test_the_field_s_files(self, tmp_path, run_tool):
        done, truth = self.prepared(tmp_path, run_tool)
        assert done.returncode == 0, done.stderr
        root = tmp_path / 'mpii'
        said(done, 'mpii_val.json: 2 images, 2 annotations (the published file: 2958)', 'complete')
        assert (root / 'annotations/mpii_gt_val.mat').read_bytes() == truth
        assert not (root / 'annotations/mpii_trainval.json').exists()  # nothing was converted
        dataset = MpiiDataset(
            'annotations/mpii_train.json', PLAIN, (256, 256), str(root), {'img': 'images'}
        )
        assert len(dataset) == 4
        assert dataset[0].visible.all()

    def test_loose_annotation_files(self, tmp_path, run_tool):
        folder = tmp_path / 'archives'
        folder.mkdir()
        self.archives(folder, official=False)
        with tarfile.open(folder / 'mpii_annotations.tar') as archive:
            for name in ('mpii_train.json', 'mpii_val.json', 'gt_valid.mat'):
                stream = archive.extractfile(f'./{name}')
                assert stream is not None
                target = 'mpii_gt_val.mat' if name.endswith('mat') else name
                (folder / target).write_bytes(stream.read())
        (folder / 'mpii_annotations.tar').unlink()
        done = run_tool('prepare_data', 'mpii', tmp_path / 'mpii', '--archives', folder)
        assert done.returncode == 0, done.stderr

    def test_official_annotations_without_a_split(self, tmp_path, run_tool):
        done, _ = self.prepared(tmp_path, run_tool, field=False)
        assert done.returncode == 1  # the configs need a validation split
        said(
            done,
            'no split',
            'mpii_trainval.json: 6 persons',
            'mpii_test.json: 1 persons',
            'mpii_annotations.tar https://download.openmmlab.com/mmpose/datasets/',
        )
        dataset = MpiiDataset(
            'annotations/mpii_trainval.json',
            PLAIN,
            (256, 256),
            str(tmp_path / 'mpii'),
            {'img': 'images'},
        )
        assert len(dataset) == 6
        assert np.isfinite(dataset.head_size).all()

    def test_official_annotations_with_the_ground_truth_s_split(self, tmp_path, run_tool):
        folder = tmp_path / 'archives'
        folder.mkdir()
        _, truth = self.archives(folder, field=False)
        (folder / 'mpii_gt_val.mat').write_bytes(truth)
        done = run_tool('prepare_data', 'mpii', tmp_path / 'mpii', '--archives', folder)
        assert done.returncode == 0, done.stderr
        annotations = tmp_path / 'mpii/annotations'
        train, val = (
            json.loads((annotations / f'mpii_{split}.json').read_text())
            for split in ('train', 'val')
        )
        for found, made in ((train, mpii_entries(4)), (val, mpii_entries(2, 4))):
            for key in ('image', 'joints', 'joints_vis', 'headbox'):
                assert [e[key] for e in found] == [e[key] for e in made]
        said(done, 'optional  test images: 1 of 1 not there')


@pytest.fixture
def mirror(tmp_path):
    """A server of archives that breaks off in the middle of the first large one."""
    folder = coco_archives(tmp_path / 'served')
    broken = []

    class Handler(SimpleHTTPRequestHandler):
        def copyfile(self, source, output):
            if not broken and self.path.endswith('train2017.zip'):
                broken.append(self.path)
                output.write(source.read(5000))
                return
            super().copyfile(source, output)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}', broken
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_from_a_mirror(tmp_path, run_tool, mirror):
    url, broken = mirror
    root = tmp_path / 'coco'
    done = run_tool('prepare_data', 'coco', root, '--download', '--mirror', url, '--unverified')
    assert done.returncode == 0, done.stderr
    assert broken
    said(done, f'fetching  {url}/train2017.zip', 'complete')
    names = sorted(path.name for path in (root / 'archives').iterdir())
    assert names == ['annotations_trainval2017.zip', 'train2017.zip', 'val2017.zip']


def test_a_mirror_without_the_file(tmp_path, run_tool, mirror):
    done = run_tool('prepare_data', 'mpii', tmp_path / 'mpii', '--download', '--mirror', mirror[0])
    assert done.returncode == 1
    said(done, 'mpii_annotations.tar: the server answers 404')


def test_the_wrong_folder(tmp_path: Path, run_tool):
    (tmp_path / 'manifest.json').write_text('{"dataset": "mpii"}')
    done = run_tool('prepare_data', 'coco', tmp_path)
    assert done.returncode == 1
    said(done, "is of the dataset 'mpii', not 'coco'")
