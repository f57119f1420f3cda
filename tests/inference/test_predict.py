"""`psa-pose predict`: pictures, videos and JSON of files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from psa_pose import Inferencer
from psa_pose.cli import main
from psa_pose.datasets.transforms import read_image
from psa_pose.evaluation.coco_ap import load_results, read_truth
from psa_pose.inference.sources import open_sources
from psa_pose.inference.writing import PictureWriter, output_files
from tests.conftest import RunTool
from tests.inference.conftest import CONFIG, MakeVideo

Predict = Callable[..., int]


@pytest.fixture
def predict(inferencer: Inferencer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """The command with these arguments, without a second to build the model anew."""

    def run(*arguments: object) -> int:
        made = 'psa_pose.inference.inferencer.Inferencer'
        monkeypatch.setattr(made, lambda *_, **__: inferencer)
        return main(['predict', str(CONFIG), str(checkpoint), *map(str, arguments)])

    return run


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def test_the_tool_draws_all_that_can_be_read_and_says_what_cannot(
    checkpoint: Path, images: list[Path], annotations: Path, tmp_path: Path, run_tool: RunTool
) -> None:
    """A real process, the whole way; the model's dataset is not there."""
    folder = tmp_path / 'in'
    folder.mkdir()
    for path in images[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / images[1].name).write_bytes(images[1].read_bytes()[:-100])
    arguments = [checkpoint, folder, '--out', tmp_path / 'out', '--boxes', annotations]
    arguments += ['--score-thr', -1, '--device', 'cpu']
    missing = 'train_dataloader.dataset.data_root=/nowhere'
    done = run_tool('inference', CONFIG, *arguments, '--cfg-options', missing)
    assert done.returncode == 1, done.stderr
    assert f'{images[1].name} is truncated' in done.stderr
    assert '1 images or videos could not be used' in done.stderr
    assert 'Traceback' not in done.stderr
    assert 'weights   ' in done.stdout and 'boxes     ground truth, ' in done.stdout
    assert 'in 2 images' in done.stdout
    written = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert written == sorted([images[0].name, images[2].name, 'results.json'])
    before, after = (read_image(f / images[0].name) for f in (folder, tmp_path / 'out'))
    assert before.shape == after.shape
    assert (np.abs(before.astype(int) - after).max(-1) > 60).mean() > 0.001, 'nothing is drawn'
    truth, _ = read_truth(annotations, load_names(annotations))
    rows = json.loads((tmp_path / 'out/results.json').read_text())
    ids = {i['id']: i['file_name'] for i in json.loads(annotations.read_text())['images']}
    assert {ids[row['image_id']] for row in rows} == {images[0].name, images[2].name}
    assert all(Path(row['file_name']).name == ids[row['image_id']] for row in rows)
    assert len(load_results(truth, rows).anns) == len(rows) > 0


def load_names(annotations: Path) -> tuple[str, ...]:
    return tuple(json.loads(annotations.read_text())['categories'][0]['keypoints'])


def test_a_video_gives_a_video_of_its_size_and_rate(
    predict: Predict, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(frames=11, size=(96, 64))
    assert predict(clip, '--out', tmp_path / 'out', '--smooth', '--score-thr', -1) == 0
    frames, fps = read_video(tmp_path / 'out/clip.mp4')
    assert (len(frames), fps, frames[0].shape) == (11, 10, (64, 96, 3))
    # A frame is a grey of its number; what is drawn is coloured.
    assert max((np.ptp(frame, axis=-1) > 60).sum() for frame in frames) > 5
    rows = json.loads((tmp_path / 'out/results.json').read_text())
    assert [row['frame'] for row in rows] == [*range(11)]
    assert {row['track'] for row in rows} == {0}
    assert 'clip.mp4 (11 frames)' in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['clip.mp4', 'results.json']


def test_names_that_are_the_same_in_two_folders_stay_apart(
    predict: Predict, images: list[Path], make_video: MakeVideo, tmp_path: Path
) -> None:
    inputs = [tmp_path / 'in' / name for name in ('a/1.jpg', 'b/1.jpg', 'b/1.bmp', 'b/1.bmp.jpg')]
    for i, path in enumerate(inputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), read_image(images[i]))
    inputs += [make_video('in/b/1.avi', 2), make_video('in/b/1.mov', 2), inputs[0]]
    assert predict(*inputs, '--out', tmp_path / 'out') == 0
    written = sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.*'))
    names = ['a/1-2.jpg', 'a/1.jpg', 'b/1-2.mp4', 'b/1.bmp-2.jpg', 'b/1.bmp.jpg', 'b/1.jpg']
    assert written == sorted([*names, 'b/1.mp4', 'results.json'])


def test_a_way_up_does_not_lead_out_of_the_folder(
    predict: Predict, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / 'in/deep').mkdir(parents=True)
    for name in ('in/1.jpg', 'in/deep/2.jpg'):
        (tmp_path / name).write_bytes(images[0].read_bytes())
    inputs = [tmp_path / 'in/deep/../1.jpg', tmp_path / 'in/deep/2.jpg']
    assert predict(*inputs, '--out', tmp_path / 'a/out') == 0
    written = sorted(str(p.relative_to(tmp_path / 'a')) for p in (tmp_path / 'a').rglob('*.*'))
    assert written == ['out/1.jpg', 'out/deep/2.jpg', 'out/results.json']


def test_nobody_is_a_picture_and_no_entry(
    predict: Predict, images: list[Path], tmp_path: Path
) -> None:
    boxes = tmp_path / 'boxes.json'
    boxes.write_text(json.dumps({path.name: [] for path in images}))
    assert predict(*images, '--out', tmp_path / 'out', '--boxes', boxes) == 0
    assert json.loads((tmp_path / 'out/results.json').read_text()) == []
    assert len(list((tmp_path / 'out').glob('*.jpg'))) == len(images)


def test_ids_are_those_of_the_annotation_file(
    predict: Predict, images: list[Path], annotations: Path, tmp_path: Path, capsys: Any
) -> None:
    content = json.loads(annotations.read_text())
    for image in content['images']:
        image['id'] += 1000
    content['annotations'] = []
    ann = tmp_path / 'ann.json'
    ann.write_text(json.dumps(content))
    assert predict(*images, '--json', tmp_path / 'r.json', '--ann', ann) == 0
    ids = {image['file_name']: image['id'] for image in content['images']}
    for row in json.loads((tmp_path / 'r.json').read_text()):
        assert row['image_id'] == ids[Path(row['file_name']).name]
    stranger = tmp_path / 'stranger.jpg'
    stranger.write_bytes(images[0].read_bytes())
    assert predict(images[0], stranger, '--json', tmp_path / 'r2.json', '--ann', ann) == 1
    assert 'has no image' in capsys.readouterr().err and not (tmp_path / 'r2.json').exists()


def test_json_alone(predict: Predict, images: list[Path], tmp_path: Path) -> None:
    assert predict(*images, '--json', tmp_path / 'deep/r.json', '--max-frames', 3) == 0
    rows = json.loads((tmp_path / 'deep/r.json').read_text())
    assert [row['image_id'] for row in rows] == [1, 2, 3]
    assert [row['file_name'] for row in rows] == [str(path) for path in images[:3]]
    assert predict(images[0], '--out', tmp_path / 'out', '--no-pictures') == 0
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['results.json']


class TestNothingIsLost:
    def test_inputs_are_not_overwritten(
        self, predict: Predict, images: list[Path], tmp_path: Path, capsys: Any
    ) -> None:
        path = tmp_path / images[0].name
        path.write_bytes(images[0].read_bytes())
        boxes = tmp_path / 'boxes.json'
        boxes.write_text(json.dumps({path.name: []}))
        for arguments, said in (
            (['--out', tmp_path], 'is an input, and would be overwritten'),
            (['--json', boxes, '--boxes', boxes], r'boxes.json is an input'),
            (['--json', path], 'is an input'),
            ([], 'nothing would be kept'),
            (['--json', 'r', '--smooth'], 'smoothing is for videos'),
            (['--json', 'r', '--box-thr', 'nan'], 'box_thr must be a number'),
        ):
            assert predict(path, *arguments) == 1
            assert said in capsys.readouterr().err
        assert path.read_bytes() == images[0].read_bytes()
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_file_among_the_inputs_is_not_overwritten(
        self, predict: Predict, make_video: MakeVideo, tmp_path: Path, capsys: Any
    ) -> None:
        video = make_video('clip.avi', 2)
        there = video.with_name('clip.mp4')
        there.write_bytes(b'of the user')
        assert predict(video, '--out', video.parent) == 1
        assert 'clip.mp4 is there already, in a folder of inputs' in capsys.readouterr().err
        assert there.read_bytes() == b'of the user'

    def test_an_error_leaves_no_half_files(
        self, predict: Predict, make_video: MakeVideo, tmp_path: Path, broken: Any, capsys: Any
    ) -> None:
        broken(ValueError)
        with pytest.raises(ValueError):
            predict(make_video(), '--out', tmp_path / 'out')
        assert list((tmp_path / 'out').iterdir()) == []

    def test_ctrl_c_keeps_what_is_there(
        self, predict: Predict, make_video: MakeVideo, tmp_path: Path, broken: Any
    ) -> None:
        broken(KeyboardInterrupt)
        assert predict(make_video(), '--out', tmp_path / 'out') == 130
        assert len(read_video(tmp_path / 'out/clip.mp4')[0]) == 3
        assert len(json.loads((tmp_path / 'out/results.json').read_text())) == 3

    @pytest.fixture
    def broken(self, inferencer: Inferencer, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Prediction stops after three frames with this error."""
        whole = inferencer.predict

        def stop_with(error: type[BaseException]) -> None:
            def three(*arguments: Any, **options: Any) -> Iterator[Any]:
                for i, pair in enumerate(whole(*arguments, **options)):
                    if i == 3:
                        raise error
                    yield pair

            monkeypatch.setattr(inferencer, 'predict', three)

        return stop_with

    def test_a_video_that_was_not_kept_whole_is_an_error(
        self, inferencer: Inferencer, make_video: MakeVideo, tmp_path: Path
    ) -> None:
        """As on a full disk, of which OpenCV says nothing."""
        sources = list(open_sources(make_video()))
        files = output_files(sources, tmp_path / 'out')
        with (
            pytest.raises(OSError, match=r'cannot write .*of 13 frames 12 were kept'),
            PictureWriter(files, inferencer.info, 0.2) as writer,
        ):
            for frame, result in inferencer.predict(sources, inferencer.box_source(None)):
                writer.write(frame, result)
            writer.videos[files[sources[0]]] += 1
        assert list((tmp_path / 'out').iterdir()) == []


def test_warnings_a_reader_needs(
    predict: Predict, inferencer: Inferencer, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new('RGB', (60, 40)).save(tmp_path / 'phone.jpg', exif=exif)
    bare = type(inferencer.info)(inferencer.info.names, (), inferencer.info.sigmas)
    monkeypatch.setattr(inferencer, 'info', bare)
    assert predict(tmp_path / 'phone.jpg', '--out', tmp_path / 'out') == 0
    said = capsys.readouterr().out
    assert 'nothing says which keypoints are connected' in said
    assert '1 images say (EXIF) that they are to be turned' in said
    assert predict(tmp_path / 'phone.jpg', '--out', tmp_path / 'out', '--upright') == 0
    assert 'EXIF' not in capsys.readouterr().out
    assert read_image(tmp_path / 'out/phone.jpg').shape == (60, 40, 3)


def test_a_log_has_a_line_now_and_then(
    predict: Predict, images: list[Path], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr('psa_pose.inference.progress._PAUSE', 0)
    assert predict(*images[:3], '--json', tmp_path / 'r.json') == 0
    said = capsys.readouterr().out
    assert 'image 2/3  ' in said and ' images/s' in said


def test_results_have_the_category_of_the_annotations(
    predict: Predict, images: list[Path], annotations: Path, tmp_path: Path
) -> None:
    """Or whoever evaluates them finds nobody."""
    content = json.loads(annotations.read_text())
    content['categories'][0]['id'] = 7
    for person in content['annotations']:
        person['category_id'] = 7
    own, result = tmp_path / 'own.json', tmp_path / 'results.json'
    own.write_text(json.dumps(content))
    for option in ('--boxes', '--ann'):
        assert predict(images[0], option, own, '--json', result) == 0
        assert {entry['category_id'] for entry in json.loads(result.read_text())} == {7}


def test_an_image_too_small_for_anybody_does_not_end_the_others(
    predict: Predict, images: list[Path], tmp_path: Path, capsys: Any
) -> None:
    line, result = tmp_path / 'line.png', tmp_path / 'results.json'
    Image.new('RGB', (1, 50)).save(line)
    assert predict(line, images[0], '--json', result) == 1
    assert 'line.png: 1x50 pixels hold no person' in capsys.readouterr().err
    assert [entry['file_name'] for entry in json.loads(result.read_text())] == [str(images[0])]
    assert predict(images[0], '--json', tmp_path) == 1
    assert 'is a folder; name a file in it' in capsys.readouterr().err
    assert not list(tmp_path.parent.glob('*.partial*'))
