"""The keypoints are those of `psa-pose test`; order, batches, and what is refused."""

import json
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from psa_pose import Inferencer
from psa_pose.codecs import MSRAHeatmap, UDPHeatmap
from psa_pose.datasets.transforms import read_image
from psa_pose.engine.build import build_dataset, keypoint_info
from psa_pose.engine.config import load_config
from psa_pose.engine.evaluate import test as evaluate
from psa_pose.engine.publish import publish
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.inference import batching, frames
from psa_pose.inference.crops import Cropper
from psa_pose.inference.inferencer import find_device
from psa_pose.inference.sources import open_sources
from psa_pose.structures import COCO_KEYPOINTS
from tests.inference.conftest import CONFIG, options


def rows(results: Any, annotations: Path) -> list[list[float]]:
    """Keypoints and scores of all persons, sorted."""
    ids = {i['file_name']: i['id'] for i in json.loads(annotations.read_text())['images']}
    entries = [e for r in results for e in r.to_coco(ids[Path(r.source).name])]
    return sorted([e['image_id'], e['score'], *e['keypoints']] for e in entries)


def test_the_keypoints_are_those_of_the_evaluation(
    config: Config, checkpoint: Path, annotations: Path, images: list[Path], tmp_path: Path
) -> None:
    """Of averaged weights, and of what is published of them; to the last bit, in equal batches."""
    cfg = Config(config.to_dict())
    cfg.val_evaluator.nms_mode = 'none'
    evaluate(cfg, checkpoint, out=tmp_path / 'results.json')
    written = json.loads((tmp_path / 'results.json').read_text())
    expected = sorted([e['image_id'], e['score'], *e['keypoints']] for e in written)
    assert torch.load(checkpoint, weights_only=True).keys() >= {'current_model_state'}
    files = [checkpoint] + [publish(checkpoint, tmp_path / n) for n in ('m.pth', 'm.safetensors')]
    for file in files:
        results = list(Inferencer(config, file, device='cpu', batch_size=64)(images, annotations))
        assert [r.source for r in results] == [str(path) for path in images]
        assert rows(results, annotations) == expected
    small = Inferencer(config, files[-1], device='cpu', batch_size=3)(images, annotations)
    np.testing.assert_allclose(rows(small, annotations), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('codec', [MSRAHeatmap, UDPHeatmap])
def test_a_crop_is_the_datasets(config: Config, images: list[Path], codec: Any) -> None:
    cfg = Config({**config.to_dict()})
    cfg.codec = {**cfg.codec, 'type': codec.__name__}
    cfg.val_dataloader.dataset.bbox_padding = 1.1
    dataset = build_dataset(cfg, 'val_dataloader')
    crop = Cropper(cfg, codec((96, 128), (24, 32), sigma=1.5), dataset.info)
    for i in range(len(dataset)):
        image = read_image(dataset.image_root / dataset.persons.file_name[i].decode())
        ours, theirs = crop(image, dataset.persons.bbox[i]), dataset[i]
        np.testing.assert_array_equal(ours.crop, theirs.crop)
        np.testing.assert_array_equal(ours.to_image, theirs.to_image)


def test_persons_of_several_images_fill_a_batch_and_order_is_kept(
    inferencer: Inferencer, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [0, 1, 9, 0, 2, 0, 0, 1]
    boxes = [[[10, 10, 60 + n, 100]] * n for n in counts]
    sizes = []
    poses = inferencer._poses

    def counted(samples: Any) -> Any:
        sizes.append(len(samples))
        return poses(samples)

    monkeypatch.setattr(inferencer, '_poses', counted)
    results = list(inferencer(images, boxes))
    assert sizes == [4, 4, 4, 1]
    assert [len(r) for r in results] == counts
    assert [r.keypoints.shape for r in results] == [(n, 17, 2) for n in counts]
    assert all(r.boxes.dtype == r.keypoints.dtype == r.scores.dtype == np.float32 for r in results)
    alone = [next(inferencer(i, b)) for i, b in zip(images, boxes, strict=True) if b]
    for ours, theirs in zip([r for r in results if len(r)], alone, strict=True):
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)


def test_arrays_are_rgb_unless_said(inferencer: Inferencer, images: list[Path]) -> None:
    rgb = read_image(images[0])
    (file,), (array,) = inferencer(images[0]), inferencer(rgb)
    (bgr,) = inferencer(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), channel_order='bgr')
    (wrong,) = inferencer(rgb, channel_order='bgr')
    assert array.source == 'array 0' and array.image_size == rgb.shape[1::-1]
    for result in (array, bgr):
        np.testing.assert_array_equal(result.keypoints, file.keypoints)
        np.testing.assert_array_equal(result.scores, file.scores)
    assert not np.array_equal(wrong.scores, file.scores)
    two = list(inferencer(np.stack([rgb, rgb])))
    assert [r.source for r in two] == ['array 0', 'array 1']


def test_the_whole_image_is_one_box_as_a_dataset_clips_it(
    inferencer: Inferencer, images: list[Path]
) -> None:
    (result,) = inferencer(str(images[0]))
    width, height = result.image_size
    assert result.boxes.tolist() == [[0, 0, width - 1, height - 1]]
    assert result.box_scores.tolist() == [1] and result.frame is None and result.tracks is None


def test_images_that_are_wanted_afterwards_are_held_up_to_a_limit(
    inferencer: Inferencer, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, whole = list(open_sources(images)), inferencer.box_source(None)
    kept = [f.image is not None for f, _ in inferencer.predict(sources, whole)]
    assert kept == [True] * len(images)
    kept = [f.image is not None for f, _ in inferencer.predict(sources, whole, keep_images=False)]
    assert kept == [False] * len(images)
    read: list[int] = []
    monkeypatch.setattr(batching, '_HELD_BYTES', 0)

    def whole_image(image: np.ndarray) -> list[list[int]]:
        read.append(len(read))
        return [[0, 0, 9, 9]]

    pairs = inferencer.predict(sources, inferencer.box_source(whole_image))
    for i, _ in enumerate(pairs, 1):
        assert len(read) == i


def test_an_iterator_is_read_as_results_are_asked_for(
    inferencer: Inferencer, images: list[Path]
) -> None:
    asked = []

    def endless() -> Any:
        while True:
            asked.append(len(asked))
            yield images[0]

    results = inferencer(endless())
    for _ in range(3):
        next(results)
    assert len(asked) <= 4, 'more was read than one batch'


def test_the_next_files_of_a_list_are_read_by_a_thread_that_ends(
    inferencer: Inferencer, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = frames.read_image

    def recorded(name: str, *options: Any) -> np.ndarray:
        read.append(threading.current_thread().name)
        return original(name, *options)

    monkeypatch.setattr(frames, 'read_image', recorded)
    before = threading.active_count()
    results = inferencer(images[:20])
    next(results)
    assert inferencer.batch_size <= len(read) <= 2 * inferencer.batch_size + 1, 'not all at once'
    assert all(name.startswith('read-ahead') for name in read)
    results.close()
    assert threading.active_count() == before

    monkeypatch.setattr(batching, '_AHEAD_BYTES', 1)  # images of any size are large now
    read.clear()
    next(results := inferencer(images[:20]))
    assert len(read) <= inferencer.batch_size + 1
    results.close()


class TestWhatCannotBeRead:
    def test_stops_or_is_named_in_its_result(
        self, inferencer: Inferencer, images: list[Path], tmp_path: Path
    ) -> None:
        bad = tmp_path / 'bad.jpg'
        bad.write_bytes(images[0].read_bytes()[:-200])
        inputs = [images[0], bad, images[1]]
        with pytest.raises(DataError, match=r'bad\.jpg is truncated'):
            list(inferencer(inputs))
        results = list(inferencer(inputs, on_error='skip'))
        assert [len(r) for r in results] == [1, 0, 1]
        assert 'bad.jpg is truncated' in results[1].error and not results[0].error
        assert results[1].image_size == (0, 0) and results[1].keypoints.shape == (0, 17, 2)

    @pytest.mark.parametrize(
        ('image', 'message'),
        [
            (np.zeros((8, 8), np.uint8), r'\(H, W, 3\) uint8, got shape \(8, 8\)'),
            (np.zeros((8, 8, 4), np.uint8), r'got shape \(8, 8, 4\)'),
            (np.zeros((8, 8, 3), np.float32), 'of float32'),
            (np.zeros((0, 8, 3), np.uint8), r'\(0, 8, 3\)'),
            (3.5, 'got float'),
        ],
    )
    def test_arrays(self, inferencer: Inferencer, image: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            inferencer(image)

    def test_options(self, inferencer: Inferencer, images: list[Path]) -> None:
        for wrong in ({'channel_order': 'gbr'}, {'on_error': 'ignore'}):
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                inferencer(images[0], **wrong)
        with pytest.raises(DataError, match='smoothing is for videos'):
            list(inferencer(images[0], smooth=True))


def test_a_device_that_is_not_here_is_named_with_those_that_are(
    config: Config, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('cuda:7', 'tpu', 'no device'):
        with pytest.raises(ConfigError, match=rf"device '{name}' is not on this machine.* cpu"):
            Inferencer(config, checkpoint, device=name)
    monkeypatch.setattr('psa_pose.inference.inferencer.gpus', lambda: 2)
    assert [str(find_device(n)) for n in (None, 'cuda', 'cuda:1')] == ['cuda:0', 'cuda', 'cuda:1']
    with pytest.raises(ConfigError, match='cuda:0, cuda:1, cpu'):
        find_device('cuda:2')
    assert str(find_device('cpu')) == 'cpu'


class TestKeypoints:
    """K of a model whose dataset is elsewhere."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Config:
        return load_config(CONFIG, options(tmp_path / 'nowhere'))

    @pytest.fixture
    def save(self, tmp_path: Path, config: Config) -> Callable[..., Path]:
        """Random weights of a dog's three keypoints."""
        from psa_pose import build_model
        from psa_pose.structures import KeypointInfo

        info = KeypointInfo(('muzzle', 'left_paw', 'right_paw'), ((0, 1), (0, 2)), (0.1, 0.2, 0.2))

        def make(**more: Any) -> Path:
            meta = {'keypoint_names': list(info.names), **more}
            state = build_model(config, info).state_dict()
            torch.save({'state_dict': state, 'meta': meta}, tmp_path / 'dog.pth')
            return tmp_path / 'dog.pth'

        return make

    def test_come_from_the_checkpoint(
        self, elsewhere: Config, save: Callable[..., Path], images: list[Path]
    ) -> None:
        file = save(skeleton=[[0, 1], [0, 2]], sigmas=[0.1, 0.2, 0.2])
        for path in (file, publish(file, file.parent / 'published.safetensors')):
            inferencer = Inferencer(elsewhere, path)
            assert inferencer.info.skeleton == ((0, 1), (0, 2))
            assert inferencer.info.sigmas == (0.1, 0.2, 0.2)
            assert inferencer.info.flip_indices == (0, 2, 1)
            (result,) = inferencer(images[0])
            assert result.keypoints.shape == (1, 3, 2)

    def test_of_older_checkpoints_have_no_skeleton(
        self, elsewhere: Config, save: Callable[..., Path]
    ) -> None:
        info = Inferencer(elsewhere, save()).info
        assert info.names == ('muzzle', 'left_paw', 'right_paw') and info.skeleton == ()
        assert info.sigmas_source == 'guessed'

    @pytest.mark.parametrize(
        ('more', 'error'),
        [
            ({'skeleton': [[0, 'left_paw']]}, CheckpointError),
            ({'skeleton': [[0, 7]]}, DataError),
            ({'sigmas': [0.1]}, DataError),
        ],
    )
    def test_that_contradict_themselves_are_refused(
        self, elsewhere: Config, save: Callable[..., Path], more: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=r'dog\.pth'):
            Inferencer(elsewhere, save(**more))

    def test_of_a_run_are_all_in_its_checkpoint(
        self, elsewhere: Config, config: Config, checkpoint: Path
    ) -> None:
        meta = torch.load(checkpoint, weights_only=True)['meta']
        info = keypoint_info(config)
        assert meta['skeleton'] == [list(bone) for bone in info.skeleton]
        assert meta['sigmas'] == list(info.sigmas)
        assert Inferencer(elsewhere, checkpoint).info == COCO_KEYPOINTS

    def test_that_nobody_says_are_asked_for(
        self, elsewhere: Config, checkpoint: Path, tmp_path: Path
    ) -> None:
        state = torch.load(checkpoint, weights_only=True)['state_dict']
        torch.save({'state_dict': state}, tmp_path / 'mute.pth')
        with pytest.raises(DataError, match=r'which keypoints does .*mute\.pth predict.*nowhere'):
            Inferencer(elsewhere, tmp_path / 'mute.pth')

    def test_must_be_the_datasets_where_it_is_here(
        self, config: Config, save: Callable[..., Path]
    ) -> None:
        with pytest.raises(CheckpointError, match='predicts 3 keypoints'):
            Inferencer(config, save())


def test_coco_entries_have_the_evaluations_score(
    inferencer: Inferencer, images: list[Path]
) -> None:
    (result,) = inferencer(images[0], [[10, 10, 60, 100, 0.5], [0, 0, 90, 90, 0.25]])
    first, second = result.to_coco(7)
    assert first['image_id'] == 7 and first['category_id'] == 1
    counted = result.scores[0][result.scores[0] > 0.2]
    mean = counted.mean() if len(counted) else 0.0
    assert first['score'] == pytest.approx(0.5 * mean)
    np.testing.assert_array_equal(
        np.reshape(second['keypoints'], (17, 3))[:, :2], result.keypoints[1]
    )
    json.dumps([first, second])


def test_what_was_trained_in_float16_runs_without_a_gpu(config: Any, checkpoint: Path) -> None:
    trained = deepcopy(config)
    trained.optim_wrapper['type'], trained.optim_wrapper['dtype'] = 'AmpOptimWrapper', 'float16'
    assert Inferencer(trained, checkpoint, device='cpu').info.num_keypoints == 17
