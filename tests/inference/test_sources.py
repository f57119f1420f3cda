"""Inputs: files, folders, patterns, lists, videos, cameras; and image files of all kinds."""

import re
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from psa_pose import Inferencer
from psa_pose.errors import DataError
from psa_pose.inference import frames as frames_module
from psa_pose.inference.frames import Video
from psa_pose.inference.sources import open_sources
from tests.inference.conftest import MakeVideo


def names(inputs: Any) -> list[str]:
    return [source.name for source in open_sources(inputs)]


def write(path: Path, image: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8) if image is None else image)
    return path


def test_a_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    for name in ('b.jpg', 'a.PNG', 'c.webp', 'deeper/d.jpg', '.a.partial.jpg'):
        write(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('')
    expected = [str(tmp_path / name) for name in ('a.PNG', 'b.jpg', 'c.webp')]
    assert names(tmp_path) == names(str(tmp_path)) == expected
    assert names(f'{tmp_path}/**/*.jpg') == [str(tmp_path / n) for n in ('b.jpg', 'deeper/d.jpg')]
    assert names([tmp_path / 'b.jpg', f'{tmp_path}/deeper']) == names(f'{tmp_path}/**/*.jpg')


def test_a_name_with_brackets_is_a_name_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path / 'a[1].jpg')
    assert names(tmp_path / 'a[1].jpg') == [str(tmp_path / 'a[1].jpg')]


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        ('{}/img_1.jpg', r"no file .*img_1\.jpg; did you mean 'img_01\.jpg'"),
        ('{}/none/a.jpg', 'no file .* and no folder .*none'),
        ('{}/empty', r'folder .*empty has no image; images end in \.bmp, \.jpeg'),
        ('{}/*.png', r'no image or video by the pattern .*\*\.png'),
        ('{}/*.txt', 'no image or video by the pattern'),
        ('{}/broken.mp4', r'video .*broken\.mp4 cannot be opened'),
        ('webcam:', r"expected 'webcam:' and a number, such as webcam:0, got 'webcam:'"),
        ('webcam:99', 'webcam:99 cannot be opened: no camera'),
        (99, 'webcam:99 cannot be opened'),
        (True, 'got bool'),
        (None, 'got NoneType'),
        (['{}/img_01.jpg', '{}/img_02.jpg'], r'no file .*img_02\.jpg'),
    ],
)
def test_what_is_not_there(tmp_path: Path, inputs: Any, message: str) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'notes.txt').write_text('')
    (tmp_path / 'broken.mp4').write_bytes(b'not a video')
    write(tmp_path / 'img_01.jpg')
    where = str(tmp_path)
    if isinstance(inputs, list):
        inputs = [text.format(where) for text in inputs]
    with pytest.raises(DataError, match=message):
        open_sources(inputs.format(where) if isinstance(inputs, str) else inputs)


class TestImageFiles:
    """Every kind becomes (H, W, 3) uint8, RGB, as in training."""

    def read(self, path: Path, **options: Any) -> np.ndarray:
        (source,) = open_sources(path, **options)
        (frame,) = source.frames()
        assert frame.image is not None, frame.error
        assert frame.size == frame.image.shape[1::-1] and frame.image.dtype == np.uint8
        return frame.image

    @pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'P', 'I;16'])
    def test_of_other_pixels(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / 'a.png'
        value: Any = {'L': 200, 'RGB': (200,) * 3, 'RGBA': (200, 200, 200, 9), 'P': 7}.get(mode)
        image = Image.new(mode, (6, 4), 200 * 257 if value is None else value)
        if mode == 'P':
            image.putpalette([200] * 768)
        image.save(path)
        assert (self.read(path) == 200).all() and self.read(path).shape == (4, 6, 3)

    def test_that_ask_to_be_turned(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)
        Image.fromarray(pixels).save(tmp_path / 'phone.png', exif=exif)
        np.testing.assert_array_equal(self.read(tmp_path / 'phone.png'), pixels)
        turned = self.read(tmp_path / 'phone.png', upright=True)
        np.testing.assert_array_equal(turned, np.rot90(pixels, -1))
        flags = [
            next(open_sources(tmp_path / 'phone.png', upright=u)[0].frames()).turned  # type: ignore[index]
            for u in (False, True)
        ]
        assert flags == [True, False]

    def test_that_claim_too_much(self, inferencer: Inferencer, tmp_path: Path) -> None:
        head = Image.new('RGB', (6, 4))
        head.save(tmp_path / 'bomb.png')
        data = bytearray((tmp_path / 'bomb.png').read_bytes())
        data[16:24] = (60000).to_bytes(4, 'big') * 2
        (tmp_path / 'bomb.png').write_bytes(data)
        with pytest.raises(DataError, match='claims to be 60000x60000 pixels'):
            next(inferencer(tmp_path / 'bomb.png'))


class TestVideos:
    def test_give_their_frames_in_rgb(self, tmp_path: Path) -> None:
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 2] = 250  # BGR
        writer = cv2.VideoWriter(
            str(tmp_path / 'a.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 12.5, (64, 48)
        )
        for _ in range(3):
            writer.write(red)
        writer.release()
        (source,) = open_sources(tmp_path / 'a.avi')
        assert (source.length, source.fps, source.live) == (3, 12.5, False)
        found = list(source.frames())
        assert [f.number for f in found] == [0, 1, 2] and not any(f.error for f in found)
        assert [f.time for f in found] == [0, 0.08, 0.16]
        assert found[0].size == (64, 48)
        assert found[0].image is not None and found[0].image[..., 0].min() > 200
        assert found[0].image[..., 2].max() < 50

    def test_give_results_with_frame_numbers(
        self, inferencer: Inferencer, make_video: MakeVideo
    ) -> None:
        results = list(inferencer(make_video(frames=6)))
        assert [r.frame for r in results] == [*range(6)]
        one_box = list(inferencer(make_video(frames=6), np.array([[2, 2, 60, 40.0]])))
        assert all(r.boxes.tolist() == [[2, 2, 60, 40]] for r in one_box) and len(one_box) == 6

    def test_that_end_early_say_so(self, inferencer: Inferencer, make_video: MakeVideo) -> None:
        path = make_video(frames=40, size=(320, 240))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        results = list(inferencer(path, on_error='skip'))
        *good, last = results
        assert 5 < len(good) < 35 and not any(r.error for r in good)
        said = re.search(r'ends after (\d+) frames of the 40 that it says', last.error)
        assert said and int(said[1]) == len(good)
        with pytest.raises(DataError, match='cut off, or damaged'):
            list(inferencer(path))

    def test_without_a_frame_say_so(self, inferencer: Inferencer, make_video: MakeVideo) -> None:
        with pytest.raises(DataError, match=r'clip\.avi (cannot be opened|has no frame)'):
            list(inferencer(make_video(frames=0)))

    def test_are_held_a_batch_at_a_time(
        self, inferencer: Inferencer, make_video: MakeVideo
    ) -> None:
        """A hundred frames of 0.7 MB; memory stays where it was after ten."""
        path = make_video(frames=100, size=(640, 360))
        after: list[int] = []
        tracemalloc.start()
        try:
            for box in ([[5, 5, 300, 300]], []):
                sources = open_sources(path)
                pairs = inferencer.predict(sources, inferencer.box_source(np.array(box)))
                for _, result in pairs:
                    if result.frame == 10:
                        tracemalloc.reset_peak()
                    if result.frame == 99:
                        after.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        frame = 640 * 360 * 3
        assert len(after) == 2 and max(after) < 12 * frame, 'frames are kept'

    def test_where_only_the_first_frame_has_a_person(
        self, inferencer: Inferencer, make_video: MakeVideo
    ) -> None:
        """The frames behind it wait for its batch: not for ever."""
        asked = 0

        def first(image: np.ndarray) -> Any:
            nonlocal asked
            asked += 1
            return [[1, 1, 20, 20]] if asked == 1 else []

        results = inferencer(make_video(frames=50), first)
        assert len(next(results)) == 1
        assert asked <= inferencer.batch_size + 1
        assert [len(r) for r in results] == [0] * 49


def test_a_cameras_frames_do_not_wait_for_each_other(
    inferencer: Inferencer, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = cv2.VideoCapture
    path = make_video(frames=5)
    monkeypatch.setattr(frames_module.cv2, 'VideoCapture', lambda _: opened(str(path)))
    for inputs in (0, 'webcam:0'):
        (source,) = open_sources(inputs)
        assert isinstance(source, Video) and source.live and source.length == 0
        assert source.name == 'webcam:0' and source.path is None
        seen = 0

        def whole(image: np.ndarray) -> Any:
            nonlocal seen
            seen += 1
            return [[0, 0, 20, 20]]

        clock = iter([10.0, 10.5, 11.5, 11.75, 12.0, 13.0])
        with monkeypatch.context() as context:
            context.setattr(frames_module, 'monotonic', clock.__next__)
            assert [f.time for f in source.frames()] == [0.5, 1.5, 1.75, 2.0, 3.0]
        for i, result in enumerate(inferencer(inputs, whole)):
            assert result.frame == i and seen == i + 1
        assert seen == 5
