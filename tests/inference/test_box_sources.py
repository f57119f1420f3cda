"""Boxes of arrays, functions and files; those that cannot be right are refused by name."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from psa_pose import Inferencer
from psa_pose.errors import DataError

BOX = [10, 10, 50, 90]


@pytest.mark.parametrize(
    ('boxes', 'message'),
    [
        ([[10, 10, np.nan, 90]], r'box 0, .*nan.* is not finite'),
        ([BOX, [10, 10, np.inf, 90]], 'box 1, .* is not finite'),
        ([[10, 10, 50, 90, np.nan]], 'is not finite'),
        ([[50, 10, 10, 90]], r'box 0, \[50.0, 10.0, 10.0, 90.0\], has no size: expected x1 < x2'),
        ([[10, 10, 10, 90]], 'has no size.* is it x, y, width, height'),
        ([[5000, 10, 5050, 90]], r'lies outside the image of \d+x\d+ pixels'),
        ([[-50, -50, -10, -10]], 'lies outside the image'),
        ([[10, 10, 50]], r'shape \(N, 4\).* got \(1, 3\)'),
        (np.zeros((2, 2, 4)), r'2 arrays of boxes for 1 images'),
        (BOX, r'shape \(N, 4\), .* got \(4,\)'),
        ([['a', 'b', 'c', 'd']], 'boxes that are no numbers'),
        ([[[10, 10], [50, 90]]], r'got \(2, 2\)'),
    ],
)
def test_arrays_that_cannot_be_right(
    inferencer: Inferencer, images: list[Path], boxes: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list(inferencer(images[0], boxes))


def test_an_array_is_for_one_image(inferencer: Inferencer, images: list[Path]) -> None:
    with pytest.raises(DataError, match='one array of boxes for 8 images: give a list'):
        inferencer(images, np.array([BOX]))
    with pytest.raises(DataError, match='2 arrays of boxes for 8 images'):
        inferencer(images, [np.array([BOX]), np.array([BOX])])
    with pytest.raises(DataError, match='1 arrays of boxes, and more images'):
        list(inferencer(iter(images), [np.array([BOX])]))
    for boxes in (np.array([BOX]), [BOX], [np.array([BOX])], np.array([[BOX]])):
        (result,) = inferencer(images[0], boxes)
        assert result.boxes.tolist() == [BOX]
    for nothing in ([], [[]], np.zeros((0, 4)), [np.zeros((0, 4))]):
        assert [len(r) for r in inferencer(images[0], nothing)] == [0]


def test_scores_are_kept_and_low_ones_left_out(inferencer: Inferencer, images: list[Path]) -> None:
    boxes = [[*BOX, 0.9], [*BOX, 0.3]]
    (result,) = inferencer(images[0], boxes)
    np.testing.assert_allclose(result.box_scores, [0.9, 0.3])
    (result,) = inferencer(images[0], boxes, box_thr=0.3)
    np.testing.assert_allclose(result.box_scores, [0.9])


def test_a_box_over_the_edge_stays_as_it_is(inferencer: Inferencer, images: list[Path]) -> None:
    (result,) = inferencer(images[0], [[-20, -10, 50, 90]])
    assert result.boxes.tolist() == [[-20, -10, 50, 90]]


def test_a_function_sees_the_image(inferencer: Inferencer, images: list[Path]) -> None:
    shapes = []

    def detect(image: np.ndarray) -> Any:
        shapes.append(image.shape)
        return [[*BOX, 0.5]]

    results = list(inferencer(images[:2], detect))
    assert [r.image_size for r in results] == [shape[1::-1] for shape in shapes]
    assert [r.box_scores.tolist() for r in results] == [[0.5], [0.5]]


class TestFiles:
    """By file name, of a detector, of annotations."""

    @pytest.fixture
    def write(self, tmp_path: Path) -> Any:
        def make(content: Any) -> Path:
            path = tmp_path / 'boxes.json'
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            return path

        return make

    def test_by_name(self, inferencer: Inferencer, images: list[Path], write: Any) -> None:
        boxes = {path.name: [[*BOX, 0.1 * i]] for i, path in enumerate(images)}
        boxes[images[0].name] = []
        results = list(inferencer(images, write(boxes)))
        assert [len(r) for r in results] == [0] + [1] * 7
        np.testing.assert_allclose(results[3].box_scores, [0.3])
        assert sum(map(len, inferencer(images, write(boxes), box_thr=0.35))) == 4

    def test_the_longest_name_is_meant(
        self, inferencer: Inferencer, images: list[Path], tmp_path: Path, write: Any
    ) -> None:
        files = [tmp_path / name for name in ('a/1.jpg', 'b/1.jpg', '1.jpg')]
        for i, file in enumerate(files):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(images[i].read_bytes())
        boxes = {'1.jpg': [], 'a/1.jpg': [BOX], 'b/1.jpg': [BOX, BOX]}
        assert [len(r) for r in inferencer(files, write(boxes))] == [1, 2, 0]

    def test_of_annotations(
        self, inferencer: Inferencer, images: list[Path], annotations: Path
    ) -> None:
        content = json.loads(annotations.read_text())
        results = list(inferencer(images, annotations))
        assert sum(map(len, results)) == len(content['annotations'])

    def test_of_a_detector(
        self, inferencer: Inferencer, images: list[Path], annotations: Path, write: Any
    ) -> None:
        content = json.loads(annotations.read_text())
        first, second = content['images'][:2]
        rows = [
            {'image_id': first['id'], 'category_id': 1, 'bbox': [10, 10, 40, 80], 'score': 0.9},
            {'image_id': first['id'], 'category_id': 1, 'bbox': [10, 10, 30, 80], 'score': 0.1},
            {'image_id': second['id'], 'category_id': 2, 'bbox': [10, 10, 30, 80], 'score': 0.9},
        ]
        path, files = write(rows), [p for p in images if p.name in (first['file_name'],)]
        (result,) = inferencer(files, path, ann_file=annotations, box_thr=0.5)
        assert result.boxes.tolist() == [[10, 10, 50, 90]]
        assert [len(r) for r in inferencer(images, path, ann_file=annotations)].count(2) == 1
        with pytest.raises(DataError, match=r'result format, by image id: .*--ann FILE'):
            inferencer(images, path)
        source = inferencer.box_source(path, ann_file=annotations)
        assert 'boxes.json (2 of 3' in source.text and '1 of other categories' in source.text

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ('{', 'is not JSON'),
            ('3', r'expected a list or an object, found 3'),
            ({'other.jpg': [BOX]}, r'has no image .*; '),
            ({'{name}': [[1, 2]]}, r'boxes\.json: .*\.jpg: expected boxes of shape'),
            ({'{name}': [[50, 10, 10, 90]]}, r'boxes\.json: .*\.jpg: box 0, .* has no size'),
            ({'{name}': 'none'}, 'boxes that are no numbers'),
            ({'images': []}, "no list 'categories'"),
            ({'images': [], 'categories': []}, 'images without annotations'),
        ],
    )
    def test_that_cannot_be_right(
        self, inferencer: Inferencer, images: list[Path], write: Any, content: Any, message: str
    ) -> None:
        if isinstance(content, dict):
            content = {key.format(name=images[0].name): v for key, v in content.items()}
        with pytest.raises(DataError, match=message):
            list(inferencer(images[0], write(content)))

    def test_that_are_not_there(self, inferencer: Inferencer, images: list[Path]) -> None:
        with pytest.raises(DataError, match=r'boxes nowhere\.json: No such file'):
            inferencer(images, 'nowhere.json')

    def test_of_an_image_that_has_changed(
        self, inferencer: Inferencer, images: list[Path], annotations: Path, tmp_path: Path
    ) -> None:
        smaller = tmp_path / images[0].name
        cv2.imwrite(str(smaller), np.zeros((40, 30, 3), np.uint8))
        inputs = [images[1], smaller, images[2]]
        with pytest.raises(DataError, match=r'is 30x40 pixels, but .* has \d+x\d+'):
            list(inferencer(inputs, annotations))
        results = list(inferencer(inputs, annotations, on_error='skip'))
        assert ['30x40' in r.error for r in results] == [False, True, False]
        assert [len(r) > 0 for r in results] == [True, False, True]

    def test_are_about_image_files(
        self, inferencer: Inferencer, annotations: Path, make_video: Any
    ) -> None:
        with pytest.raises(DataError, match=r'is about image files, and .*clip\.avi is none'):
            inferencer(make_video(), annotations)
