"""A config for any dataset: written once, sound to the doctor, and trainable as it stands."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from psa_pose.cli import main
from psa_pose.engine import config as config_module
from psa_pose.engine.check.init_config import init_config
from psa_pose.engine.check.leaf import crop_of, has_sides
from psa_pose.engine.config import config_roots, load_config
from psa_pose.errors import ConfigError, DataError
from psa_pose.structures import COCO_KEYPOINTS, MPII_KEYPOINTS, KeypointInfo
from tests.engine.check.dataset import content, write

TINY = ['--backbone', 'hrnet_tiny_psa_p']


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """K = 5, no sides, no sigmas, no boxes, and names that need quotes."""
    monkeypatch.chdir(tmp_path)
    folder = Path("dog's pictures")
    folder.mkdir()
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations = []
    for i in range(20):
        name = f"dog {i} 'x'.png"
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (60, 90, 3), np.uint8))
        images.append({'id': i, 'file_name': name, 'width': 90, 'height': 60})
        points = [v for _ in range(5) for v in (*rng.integers(5, 55, 2).tolist(), 2)]
        annotations.append({'id': i, 'image_id': i, 'category_id': 3, 'keypoints': points})
    annotations[4]['keypoints'] = [30, 30, 2] + [0] * 12  # a single one has no extent
    category = {'id': 3, 'name': 'dog', 'keypoints': ['nose', 'tail', 'paw', 'ear', 'back']}
    path = Path("my dogs' file.json")
    path.write_text(
        json.dumps({'images': images, 'annotations': annotations, 'categories': [category]})
    )
    return path


def test_animals_without_boxes_from_nothing_to_a_training_step(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['init-config', '--ann', str(animals), '--images', "dog's pictures", *TINY]
    assert main([*arguments, '--out', "my configs/dogs' own.py"]) == 0
    told = capsys.readouterr().out
    assert 'split     by image, drawn with seed 0: 2 of 20 images are for evaluation' in told
    assert 'completed 20 persons without a box or area, from their keypoints' in told
    assert told.endswith(
        "next      psa-pose check 'my configs/dogs'\"'\"' own.py', then psa-pose train "
        "'my configs/dogs'\"'\"' own.py'\n"
    )
    config = "my configs/dogs' own.py"
    assert main(['check', config]) == 0
    assert '0 errors, 0 warnings' in capsys.readouterr().out
    workers = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val')]
    assert main(['train', config, '--dry-run', '--cfg-options', *workers]) == 0
    assert 'K = 5' in (trained := capsys.readouterr().out) and 'all is well' in trained

    parts = [
        json.loads(Path(f"my configs/dogs' own.{name}.json").read_text())
        for name in ('train', 'val')
    ]
    ids = [{image['id'] for image in part['images']} for part in parts]
    assert ids[0] | ids[1] == set(range(20)) and not ids[0] & ids[1]
    for part, own in zip(parts, ids, strict=True):
        assert {entry['image_id'] for entry in part['annotations']} == own
        for entry in part['annotations']:
            x, y, width, height = entry['bbox']
            points = np.array(entry['keypoints']).reshape(-1, 3)
            seen = points[points[:, 2] > 0, :2]
            assert (seen > (x, y)).all() and (seen < (x + width, y + height)).all()
            assert min(x, y) >= 0 and x + width <= 89 and y + height <= 59
            assert entry['area'] == pytest.approx(0.53 * width * height, abs=0.01)
            assert entry['bbox_source'] == 'keypoints'


def test_nothing_is_overwritten_unless_asked(animals: Path) -> None:
    out = Path('mine.py')
    init_config(animals, Path("dog's pictures"), out=out)
    before = {path: path.read_text() for path in Path().glob('mine*')}
    assert len(before) == 3
    with pytest.raises(ConfigError, match=r'mine\.train\.json.*there already; --force overwrites'):
        init_config(animals, Path("dog's pictures"), out=out, seed=1)
    assert {path: path.read_text() for path in before} == before
    init_config(animals, Path("dog's pictures"), out=out, seed=1, force=True)
    assert out.with_suffix('.val.json').read_text() != before[out.with_suffix('.val.json')]
    init_config(animals, Path("dog's pictures"), out=out, force=True)
    assert {path: path.read_text() for path in before} == before  # the seed alone decides


def test_a_slice_of_real_athletes(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    images = str(shared_data / 'lspet/images')
    for name, count in (('train', 80), ('dev', 12)):
        part = json.loads((shared_data / f'lspet/annotations/lspet_{name}.json').read_text())
        part['images'], part['annotations'] = part['images'][:count], part['annotations'][:count]
        Path(f'{name}.json').write_text(json.dumps(part))
    given = ['--ann', 'train.json', '--images', images, '--val-ann', 'dev.json', *TINY]
    assert main(['init-config', *given]) == 0
    config = 'configs/train.py'
    assert [path.name for path in Path('configs').iterdir()] == ['train.py']  # nothing to complete
    assert 'split' not in capsys.readouterr().out
    cfg = load_config(config)
    assert cfg.val_dataloader.dataset.ann_file == 'dev.json'
    assert cfg.train_dataloader.dataset.pipeline[1].type == 'RandomFlip'
    assert 'flip_test' not in cfg.model.get('test_cfg', {})
    assert main(['check', config]) == 0
    assert 'error' not in capsys.readouterr().out.replace('0 errors', '')
    workers = [f'{name}_dataloader.num_workers=0' for name in ('train', 'val')]
    assert main(['train', config, '--dry-run', '--cfg-options', *workers]) == 0
    assert 'K = 14' in capsys.readouterr().out


def test_the_bases_are_found_from_a_wheel_too(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_config(animals, Path("dog's pictures"), out=Path('mine.py'), backbone='simplebaseline_r50')
    expected = load_config('mine.py')
    inside = tmp_path / 'site-packages/psa_pose/configs'
    shutil.copytree(config_roots()[0], inside)
    (inside / '_base_/runtime/default.py').write_text('randomness = dict(seed=17)\n')
    monkeypatch.setattr(config_module, 'config_roots', lambda: [inside])
    assert load_config('mine.py').randomness.seed == 17
    assert load_config('mine.py').model == expected.model
    assert expected.model.backbone.type == 'ResNet' and 'attention' not in expected.model.backbone


@pytest.mark.parametrize('layout', ['', '_psa_p', '_psa_s'])
@pytest.mark.parametrize('model', ['hrnet_w32', 'hrnet_w48', 'simplebaseline_r101'])
def test_backbones(animals: Path, model: str, layout: str) -> None:
    cfg = load_config(
        init_config(animals, Path("dog's pictures"), out=Path('m.py'), backbone=f'{model}{layout}')
    )
    attention = cfg.model.backbone.get('attention')
    words = {'': None, '_psa_p': 'parallel', '_psa_s': 'sequential'}
    assert (attention and attention.layout) == words[layout]
    assert cfg.codec.input_size == (256, 256) and cfg.codec.sigma == 2


@pytest.mark.parametrize(
    ('box', 'tiny', 'expected'),
    [
        ((50, 120), False, (192, 256)),
        ((50, 120), True, (96, 128)),
        ((100, 100), False, (256, 256)),
        ((200, 100), False, (256, 192)),
        ((250, 600), False, (288, 384)),
        ((600, 600), False, (384, 384)),
        ((250, 600), True, (96, 128)),
    ],
)
def test_the_crop_has_the_boxes_shape(
    box: tuple[int, int], tiny: bool, expected: tuple[int, int]
) -> None:
    assert crop_of(np.array([[0, 0, *box]] * 3, float), tiny)[0] == expected


def test_sides_are_known_by_name() -> None:
    assert has_sides(COCO_KEYPOINTS) and has_sides(MPII_KEYPOINTS)
    for names in (
        ['nose', 'tail'],
        ['left_eye', 'right_ear'],
        ['left_eye', 'right_eye', 'left_ear'],
    ):
        assert not has_sides(KeypointInfo(tuple(names), (), (0.1,) * len(names)))


def test_what_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, content(0, 40))
    train, images = Path('train.json'), Path('images')
    with pytest.raises(ConfigError, match=r"no 'hrnet_w31'; did you mean 'hrnet_w32'"):
        init_config(train, images, backbone='hrnet_w31')
    with pytest.raises(DataError, match='image root nowhere is not a folder'):
        init_config(train, Path('nowhere'))
    with pytest.raises(DataError, match=r'annotation file nowhere\.json: No such file'):
        init_config(Path('nowhere.json'), images)
    Path('empty').mkdir()
    none = r'empty has none of the 40 images of train\.json \(0\.jpg, '
    with pytest.raises(DataError, match=f'{none}.*0.jpg is in images: is --images right'):
        init_config(train, Path('empty'))
    with pytest.raises(DataError, match=r'empty has none .*: is --val-images right\?'):
        init_config(train, images, val_ann=Path('train.json'), val_images=Path('empty'))
    write(tmp_path, content(0, 1))
    with pytest.raises(DataError, match='1 image with labelled persons cannot be split'):
        init_config(train, images)
    dataset = content(0, 40)
    dataset['annotations'][3]['keypoints'].pop()
    write(tmp_path, dataset)
    with pytest.raises(DataError, match=r'annotations: 1 with 17 keypoint numbers .*\(1003\)'):
        init_config(train, images)
    other = content(40, 10)
    other['categories'][0]['keypoints'][0] = 'left_ear'
    write(tmp_path, content(0, 40), other)
    with pytest.raises(DataError, match='left_ear'):
        init_config(train, images, val_ann=Path('val.json'))
    assert not Path('configs').exists()


def test_what_it_reads_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names of the split's files depend on --out alone, and may be those of its inputs."""
    write(tmp_path, content(0, 40))
    before = (tmp_path / 'train.json').rename(tmp_path / 'my.train.json').read_bytes()
    arguments = ['--images', str(tmp_path / 'images'), '--out', str(tmp_path / 'my.py'), *TINY]
    command = ['init-config', '--ann', str(tmp_path / 'my.train.json'), *arguments, '--force']
    assert main(command) == 1
    assert 'my.train.json is an input, and would be overwritten' in capsys.readouterr().err
    assert (tmp_path / 'my.train.json').read_bytes() == before
    assert not (tmp_path / 'my.py').exists()
