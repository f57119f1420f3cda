"""The sheet shows what the dataset gives, says what is missing, and is the same every time."""

import json

import cv2
import numpy as np
import pytest
import torch

from psa_pose.cli import main
from psa_pose.codecs import MSRAHeatmap
from psa_pose.datasets import CocoStyleDataset
from psa_pose.datasets.sampling import SampleKey
from psa_pose.datasets.synthetic import render_dataset
from psa_pose.engine.browse import spread
from psa_pose.engine.build import build_model
from psa_pose.structures import COCO_KEYPOINTS
from psa_pose.visualization.browse import data_cells, find_left_out
from psa_pose.visualization.person import Zoom
from tests.conftest import ROOT
from tests.handmade import coco_content, person_entry, write_dataset

CONFIG = str(ROOT / 'configs/demo/hrnet_tiny_psa_p_128x96.py')
CODEC = MSRAHeatmap(input_size=(48, 64), heatmap_size=(12, 16))
LOAD, CUT = {'type': 'LoadImage'}, {'type': 'TopdownAffine'}
FIXED = {'shift_prob': 0, 'scale_prob': 0, 'rotate_prob': 0}


def cells(root, *transforms, persons=None, index=0, on_error='raise'):
    path = write_dataset(root, coco_content(persons))
    pipeline = [LOAD, *transforms, CUT]
    dataset = CocoStyleDataset(path.name, pipeline, (48, 64), str(root), on_error=on_error)
    key = SampleKey(index, 0)
    zoom = Zoom(dataset.input_size)
    return data_cells(dataset, CODEC, key, dataset[key], find_left_out(dataset, [index]), zoom)


class TestCells:
    def test_image_crop_and_target(self, tmp_path):
        image, crop, target = cells(tmp_path)
        assert image.caption == 'person 0: 1.png, annotation 1'
        assert crop.caption == 'as it is\nunlabelled: left_foot'
        assert target.caption == 'target: 4 of 5'
        assert crop.image.shape == target.image.shape == (256, 192, 3)

    @pytest.mark.parametrize(
        ('transform', 'said'),
        [
            ({'type': 'RandomFlip', 'prob': 1.0}, 'mirrored'),
            ({'type': 'RandomBBoxTransform', **FIXED}, 'as it is'),
            (
                {
                    'type': 'RandomBBoxTransform',
                    **FIXED,
                    'scale_prob': 1,
                    'scale_factor': (1.5, 1.5),
                },
                '1.50 x its box',
            ),
        ],
    )
    def test_augmentation_is_named(self, tmp_path, transform, said):
        assert cells(tmp_path, transform)[1].caption.split('\n')[0] == said

    @pytest.mark.parametrize('flip', [0.0, 1.0])
    def test_a_turn_is_what_it_was(self, tmp_path, monkeypatch, flip):
        from psa_pose.datasets.transforms import augment

        monkeypatch.setattr(augment, 'truncated_normal', lambda rng, size: np.full(size, 0.5))
        turn = {'type': 'RandomBBoxTransform', **FIXED, 'rotate_prob': 1, 'rotate_factor': 50}
        said = cells(tmp_path, {'type': 'RandomFlip', 'prob': flip}, turn)[1].caption.split('\n')[0]
        assert said == ('mirrored, ' if flip else '') + 'turned by 25 degrees'

    def test_labelled_keypoints_beyond_the_crop_are_named(self, tmp_path):
        halved = {
            'type': 'RandomBBoxTransform',
            **FIXED,
            'scale_prob': 1,
            'scale_factor': (0.2, 0.2),
        }
        _, crop, target = cells(tmp_path, halved)
        assert 'outside the crop: head, ' in crop.caption
        assert target.caption == 'target: 0 of 5'
        grey = cv2.cvtColor(target.image, cv2.COLOR_RGB2GRAY)
        assert (target.image == grey[..., None]).all()  # nothing to aim at

    def test_others_and_those_left_out_are_outlined(self, tmp_path):
        alone = cells(tmp_path / 'a')[0].image
        crowd = {'bbox': [80, 10, 30, 60], 'iscrowd': 1}
        nobody = {'bbox': [2, 2, 14, 80], 'keypoints': [0] * 15, 'num_keypoints': 0}
        persons = [person_entry(1), person_entry(2, **crowd), person_entry(3, **nobody)]
        (tmp_path / 'b').mkdir()
        dataset = write_dataset(tmp_path / 'b', coco_content(persons))
        found = find_left_out(
            CocoStyleDataset(dataset.name, [], (48, 64), str(tmp_path / 'b')), [0]
        )
        assert {why for _, why in found[1]} == {'crowd', 'no labels'}
        shown = cells(tmp_path / 'b', persons=persons)[0].image
        assert (alone != shown).any()

    def test_an_image_that_is_skipped_is_said(self, tmp_path):
        write_dataset(tmp_path, coco_content())
        content = coco_content()
        path = tmp_path / 'annotations.json'
        path.write_text(json.dumps(content))
        (tmp_path / '1.png').write_bytes(b'no image')
        dataset = CocoStyleDataset(path.name, [LOAD, CUT], (48, 64), str(tmp_path), on_error='skip')
        with pytest.warns(UserWarning, match='skipped'):
            sample = dataset[0]
        (cell,) = data_cells(dataset, CODEC, SampleKey(0), sample, {}, Zoom((48, 64)))
        assert 'skipped: its image cannot be read' in cell.caption


def options(root, *more):
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        *more,
    ]


class TestCommand:
    def run(self, root, out, *arguments):
        return main(['browse-dataset', CONFIG, '--out', str(out), *arguments, *options(root)])

    def test_the_same_sheet_every_time_and_another_in_another_epoch(
        self, demo_root, tmp_path, capsys
    ):
        sheets = []
        for name, epoch in (('a', '0'), ('b', '0'), ('c', '1')):
            path = tmp_path / f'{name}.png'
            assert self.run(demo_root, path, '--count', '3', '--epoch', epoch) == 0
            sheets.append(path.read_bytes())
        assert sheets[0] == sheets[1] != sheets[2]
        assert 'persons 0, ' in capsys.readouterr().out

    def test_a_checkpoint_adds_what_it_predicts(self, demo_root, tmp_path, capsys):
        torch.manual_seed(0)
        model = build_model(CONFIG, COCO_KEYPOINTS)
        torch.save({'state_dict': model.state_dict()}, tmp_path / 'a.pth')
        sizes = []
        for more in ([], ['--checkpoint', str(tmp_path / 'a.pth')]):
            path = tmp_path / 'sheet.png'
            arguments = ['--split', 'val', '--index', '2', '0', *more]
            assert self.run(demo_root, path, *arguments) == 0
            sizes.append(cv2.imread(str(path)).shape)
        assert sizes[1][1] - sizes[0][1] == 6 * 200  # pose, heatmaps, four stages of 192 pixels
        assert 'persons 2, 0' in capsys.readouterr().out

    @pytest.mark.parametrize(
        ('arguments', 'said'),
        [
            (['--index', '999'], '--index 999: '),
            (['--index', '-1'], 'has persons 0 to '),
            (['--count', '0'], 'at least 1 person'),
            (['--split', 'val', '--epoch', '1'], 'val has none'),
            (['--epoch', '-1'], 'epochs count from 0'),
            (['--each-keypoint'], '--checkpoint'),
            (['--split', 'test'], 'test_dataloader'),
        ],
    )
    def test_errors(self, demo_root, tmp_path, capsys, arguments, said):
        assert self.run(demo_root, tmp_path / 'a.png', *arguments) == 1
        assert said in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_an_image_that_is_not_there_is_named(self, tmp_path, capsys):
        for split in ('train', 'val'):
            render_dataset(tmp_path, split, 2, seed=1)
        (gone, *_) = sorted((tmp_path / 'images/val').iterdir())
        gone.unlink()
        assert self.run(tmp_path, tmp_path / 'a.png', '--split', 'val') == 1
        assert str(gone) in capsys.readouterr().err

    def test_the_tool_is_the_command(self, run_tool):
        assert '--each-keypoint' in run_tool('browse_dataset', '--help').stdout

    def test_a_file_that_is_no_picture(self, demo_root, tmp_path, capsys):
        assert self.run(demo_root, tmp_path / 'a.txt') == 1
        assert 'a.txt: a picture ends in one of' in capsys.readouterr().err


def test_persons_are_spread():
    assert spread(100, 5) == [0, 25, 50, 74, 99]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(10, 1) == [0]
