"""Rendered demo data: determinism, COCO's format, and annotations that tell the truth."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.datasets.synthetic import dataset, render_dataset, render_image
from psa_pose.datasets.synthetic.body import KEYPOINT_NAMES, Proportions, articulate
from psa_pose.datasets.synthetic.figure import STRIDE, Figure, Viewpoint, project
from psa_pose.datasets.synthetic.poses import ARM_LIMITS, LEG_LIMITS, Pose, sample_pose
from psa_pose.datasets.synthetic.scene import MIN_KEYPOINTS, Person, keypoint_flags
from psa_pose.datasets.synthetic.wardrobe import dress, sample_outfit

WIDTH, HEIGHT = 320, 240
NUM_IMAGES = 60
INDEX = {name: index for index, name in enumerate(KEYPOINT_NAMES)}


@pytest.fixture(scope='module')
def annotation_file(tmp_path_factory) -> Path:
    return render_dataset(tmp_path_factory.mktemp('rendered'), 'val', NUM_IMAGES, seed=3)


@pytest.fixture(scope='module')
def content(annotation_file) -> dict:
    return json.loads(annotation_file.read_text())


@pytest.fixture(scope='module')
def keypoints(content) -> np.ndarray:
    """All people's keypoints, (people, 17, 3)."""
    return np.array([a['keypoints'] for a in content['annotations']]).reshape(-1, 17, 3)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def standing_figure(turn: float, stature: float = 150) -> Figure:
    """A person who stands with slightly spread limbs, seen from `turn` degrees."""
    arms, legs = np.zeros((2, 4)), np.zeros((2, 4))
    arms[:, 1], legs[:, 1] = 20, 8
    body = articulate(Pose(arms, legs), Proportions())
    pieces = dress(body, sample_outfit(np.random.default_rng(0)))
    return project(body, pieces, Viewpoint(stature, turn))


def flags_of(figure: Figure, in_front: Figure | None = None) -> np.ndarray:
    """Visibility flags of a figure alone in an image, or with another one right before it."""
    offset = np.array([100.0, 100.0])
    labels = np.zeros((200, 200), np.uint8)
    figure.paint_labels(labels, offset, 1)
    if in_front is not None:
        in_front.paint_labels(labels, offset, 2)
    return keypoint_flags(labels, 1, Person(figure, offset, 0))


class TestDeterminism:
    def test_same_seed_writes_the_same_bytes(self, tmp_path):
        for name in ('a', 'b'):
            render_dataset(tmp_path / name, 'train', 4, seed=7)
        assert files_below(tmp_path / 'a') == files_below(tmp_path / 'b')
        assert len(files_below(tmp_path / 'a')) == 5

    def test_seed_split_and_index_each_change_the_picture(self, tmp_path):
        render_dataset(tmp_path / 'a', 'train', 2, seed=7)
        render_dataset(tmp_path / 'a', 'val', 1, seed=7)
        render_dataset(tmp_path / 'b', 'train', 1, seed=8)
        pictures = [p.read_bytes() for p in tmp_path.rglob('*.jpg')]
        assert len(set(pictures)) == len(pictures) == 4

    def test_an_image_does_not_depend_on_how_many_there_are(self, tmp_path):
        few = json.loads(render_dataset(tmp_path / 'few', 'train', 2, seed=7).read_text())
        many = json.loads(render_dataset(tmp_path / 'many', 'train', 5, seed=7).read_text())
        assert many['annotations'][: len(few['annotations'])] == few['annotations']
        few_files, many_files = (files_below(tmp_path / n / 'images') for n in ('few', 'many'))
        assert few_files.items() < many_files.items()


class TestCocoFormat:
    def test_pycocotools_reads_it_and_finds_every_image(self, annotation_file):
        coco = COCO(annotation_file)
        assert coco.getImgIds(catIds=coco.getCatIds(['person'])) == list(range(1, NUM_IMAGES + 1))
        for image in coco.loadImgs(coco.getImgIds()):
            path = annotation_file.parents[1] / 'images' / 'val' / image['file_name']
            assert cv2.imread(str(path)).shape == (image['height'], image['width'], 3)

    def test_the_truth_itself_scores_a_perfect_ap(self, annotation_file, content):
        truth = COCO(annotation_file)
        people = [{**annotation, 'score': 1.0} for annotation in content['annotations']]
        evaluation = COCOeval(truth, truth.loadRes(people), 'keypoints')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)

    def test_category_is_cocos_person(self, content):
        (category,) = content['categories']
        assert (category['id'], category['name']) == (1, 'person')
        assert tuple(category['keypoints']) == KEYPOINT_NAMES
        assert len(category['sigmas']) == 17 and len(category['skeleton']) == 19
        assert {tuple(map(str, edge)) for edge in category['skeleton']} >= {
            ('6', '8'),
            ('14', '12'),
        }

    def test_ids_are_unique_and_refer_to_images(self, content):
        ids = [a['id'] for a in content['annotations']]
        assert len(set(ids)) == len(ids)
        images = {image['id'] for image in content['images']}
        assert {a['image_id'] for a in content['annotations']} == images


class TestAnnotations:
    def test_labelled_keypoints_lie_in_the_image_and_others_are_zero(self, keypoints):
        x, y, v = np.moveaxis(keypoints, -1, 0)
        labelled = v > 0
        assert set(np.unique(v)) == {0, 1, 2}
        assert (x[labelled] >= 0).all() and (x[labelled] <= WIDTH - 1).all()
        assert (y[labelled] >= 0).all() and (y[labelled] <= HEIGHT - 1).all()
        assert (x[~labelled] == 0).all() and (y[~labelled] == 0).all()

    def test_num_keypoints_counts_the_labelled_ones(self, content, keypoints):
        counts = [a['num_keypoints'] for a in content['annotations']]
        assert counts == np.count_nonzero(keypoints[..., 2], axis=1).tolist()
        assert min(counts) >= MIN_KEYPOINTS

    def test_box_lies_in_the_image_and_holds_the_area_and_the_visible_keypoints(
        self, content, keypoints
    ):
        for annotation, points in zip(content['annotations'], keypoints, strict=True):
            x, y, w, h = annotation['bbox']
            assert x >= 0 and y >= 0 and x + w <= WIDTH and y + h <= HEIGHT
            assert 0.1 * w * h < annotation['area'] <= w * h
            visible = points[points[:, 2] == 2, :2]
            assert (visible >= np.array([x, y]) - 1).all()
            assert (visible <= np.array([x + w, y + h])).all()

    def test_images_hold_one_to_four_people(self, content):
        counts = np.bincount([a['image_id'] for a in content['annotations']])[1:]
        assert set(counts) == {1, 2, 3, 4}
        assert 1.7 < counts.mean() < 2.6

    def test_statures_vary(self, content):
        heights = [a['bbox'][3] for a in content['annotations']]
        assert np.percentile(heights, 90) > 1.6 * np.percentile(heights, 10)

    def test_any_size_is_rendered(self):
        image, people = render_image(np.random.default_rng(0), (200, 260))
        assert image.shape == (260, 200, 3) and image.dtype == np.uint8
        assert people


class TestVisibility:
    def test_somebody_in_front_hides_every_keypoint(self):
        person = standing_figure(turn=0)
        assert (flags_of(person) == 2).all()
        assert (flags_of(person, in_front=standing_figure(turn=0)) == 1).all()

    def test_from_behind_the_face_is_not_labelled(self):
        flags = flags_of(standing_figure(turn=180))
        assert not flags[[INDEX['nose'], INDEX['left_eye'], INDEX['right_eye']]].any()
        assert (flags[INDEX['left_shoulder'] :] == 2).all()

    def test_from_the_side_the_far_limbs_are_hidden(self):
        flags = flags_of(standing_figure(turn=90))  # faces the image's right, shows its right side
        assert flags[INDEX['right_shoulder']] == flags[INDEX['right_ear']] == 2
        assert flags[INDEX['left_shoulder']] == flags[INDEX['left_hip']] == 1
        assert flags[INDEX['left_ear']] == 0


class TestLeftAndRight:
    PAIRS = [(INDEX[n], INDEX[n.replace('left', 'right')]) for n in KEYPOINT_NAMES if 'left' in n]

    @pytest.mark.parametrize(('turn', 'sign'), [(0, 1), (180, -1)])
    def test_left_is_on_the_images_right_in_front_views_only(self, turn, sign):
        points = standing_figure(turn).keypoints
        assert all(sign * (points[left, 0] - points[right, 0]) > 0 for left, right in self.PAIRS)

    @pytest.mark.parametrize(('turn', 'sign'), [(90, 1), (-90, -1)])
    def test_the_nose_leads_in_side_views(self, turn, sign):
        points = standing_figure(turn).keypoints
        assert sign * (points[INDEX['nose'], 0] - points[INDEX['left_ear'], 0]) > 5

    def test_left_foot_is_lighter(self):
        figure, offset = standing_figure(turn=0), np.array([100.0, 100.0])
        image = np.zeros((200, 200, 3), np.uint8)
        figure.paint(image, offset)
        feet = figure.keypoints[[INDEX['left_ankle'], INDEX['right_ankle']]] + offset + (0, 6)
        left, right = (int(image[round(y), round(x)].max()) for x, y in feet)
        assert left > right + 60


class TestBody:
    def test_rows_count_downwards(self):
        heights = standing_figure(turn=0).keypoints[:, 1]
        order = ['left_eye', 'nose', 'left_shoulder', 'left_hip', 'left_knee', 'left_ankle']
        assert (np.diff(heights[[INDEX[name] for name in order]]) > 0).all()

    def test_limbs_keep_their_lengths_and_joints_their_limits(self):
        rng, size = np.random.default_rng(1), Proportions()
        for _ in range(100):
            pose = sample_pose(rng)
            for angles, limits in ((pose.arms, ARM_LIMITS), (pose.legs, LEG_LIMITS)):
                assert (angles >= limits[:, 0]).all() and (angles <= limits[:, 1]).all()
            points = articulate(pose, size).keypoints()
            for start, end, length in (
                ('left_shoulder', 'left_elbow', size.upper_arm),
                ('right_elbow', 'right_wrist', size.forearm),
                ('right_hip', 'right_knee', size.thigh),
                ('left_knee', 'left_ankle', size.shin),
            ):
                distance = np.linalg.norm(points[INDEX[start]] - points[INDEX[end]])
                assert distance == pytest.approx(length)

    def test_bending_brings_the_wrist_forwards_and_the_ankle_backwards(self):
        bent = np.zeros((2, 4))
        bent[:, 3] = 60
        points = articulate(Pose(bent, bent), Proportions()).keypoints()
        assert (points[[INDEX['left_wrist'], INDEX['right_wrist']], 2] > 0.1).all()
        assert (points[[INDEX['left_ankle'], INDEX['right_ankle']], 2] < -0.1).all()

    def test_what_is_painted_is_what_is_labelled(self):
        figure = standing_figure(turn=30)
        white = replace(figure, colours=[(255, 255, 255)] * len(figure.colours))
        image, labels = np.zeros((240, 240, 3), np.uint8), np.zeros((240, 240), np.uint8)
        offset = np.array([120.3, 110.7])
        white.paint(image, offset)
        figure.paint_labels(labels, offset, 1)
        painted = (image[..., 0] > 127).astype(np.uint8)  # anti-aliased: at least half covered
        labelled = (labels >= STRIDE).astype(np.uint8)
        neighbourhood = np.ones((3, 3), np.uint8)
        assert labelled.sum() > 1000
        assert (cv2.erode(painted, neighbourhood) <= labelled).all()
        assert (labelled <= cv2.dilate(painted, neighbourhood)).all()


class TestInterruption:
    def test_an_interrupted_run_leaves_no_json_not_even_an_older_one(self, tmp_path, monkeypatch):
        target = render_dataset(tmp_path, 'train', 1, seed=0)
        assert target.exists()
        rendered = []

        def fail_at_the_third(rng, size):
            rendered.append(size)
            if len(rendered) == 3:
                raise KeyboardInterrupt
            return render_image(rng, size)

        monkeypatch.setattr(dataset, 'render_image', fail_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            render_dataset(tmp_path, 'train', 5, seed=0)
        assert len(list(tmp_path.rglob('*.jpg'))) == 2
        assert not list(tmp_path.rglob('*.json'))

    def test_a_half_written_json_never_has_the_final_name(self, tmp_path, monkeypatch):
        write = Path.write_bytes

        def write_half(path, data):
            write(path, data[: len(data) // 2])
            if path.suffix == '.json':
                raise OSError('disk full')

        monkeypatch.setattr(Path, 'write_bytes', write_half)
        with pytest.raises(OSError, match='disk full'):
            render_dataset(tmp_path, 'train', 1, seed=0)
        assert not list(tmp_path.rglob('*.json'))
