"""The definitions, on poses where every similarity is known; and the authors' own counts."""

import json
import math

import numpy as np
import pytest

from psa_pose.evaluation.diagnosis import Options, diagnose, read_ground_truth
from psa_pose.evaluation.diagnosis.cures import cure
from psa_pose.evaluation.diagnosis.detections import check_results
from psa_pose.evaluation.diagnosis.groups import groups, overlapping
from psa_pose.evaluation.diagnosis.kinds import (
    GOOD,
    INVERSION,
    JITTER,
    MISS,
    SWAP,
    UNJUDGED,
    judge,
)
from psa_pose.evaluation.diagnosis.matching import DETECTION_KINDS, match
from psa_pose.evaluation.diagnosis.scene import Scene
from psa_pose.evaluation.pairs import oks_of_pairs
from tests.handmade import CATEGORY, coco_content, person_entry

SIGMA, AREA = 0.1, 2500.0
CATEGORY_5 = {**CATEGORY, 'sigmas': [SIGMA] * 5}
POINTS = np.array([[200, 50], [50, 150], [350, 150], [100, 350], [300, 350]], float)
LEFT_HAND, RIGHT_HAND = 1, 2


def shifted(x, y):
    return POINTS + np.array([x, y])


def person(number, shift=0.0, image_id=1, **changes):
    flat = np.column_stack([shifted(shift, 0), np.full(5, 2)]).ravel().tolist()
    entry = {'bbox': [shift, 0, 400, 400], 'area': AREA, 'keypoints': flat, 'num_keypoints': 5}
    return person_entry(number, image_id, **{**entry, **changes})


def truth_of(tmp_path, *persons, category=CATEGORY_5):
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(coco_content(persons, categories=[category])))
    return read_ground_truth(path)


def row(points, image_id=1, score=0.5):
    flat = np.insert(np.asarray(points, float), 2, 1, axis=1).ravel().tolist()
    return {
        'image_id': image_id,
        'category_id': CATEGORY['id'],
        'keypoints': flat,
        'score': score,
    }


def judged(truth, *rows, **options):
    """Kinds (D, K) in the order of the rows, and the parts they come from."""
    options = Options(**options)
    scene = Scene.of(truth, check_results(list(rows), truth, 'here'))
    matches = match(scene.pairs, scene.oks, truth, options.match_oks)
    errors = judge(scene.pairs, scene.points, truth, matches, options)
    back = np.argsort(scene.detections.row)
    return errors.kind[back], [DETECTION_KINDS[k] for k in matches.kind[back]], (scene, errors)


def moved(keypoint, offset, points=POINTS):
    result = points.copy()
    result[keypoint] += offset
    return result


def distance(similarity, area=AREA):
    return math.sqrt(-2 * math.log(similarity) * area) * 2 * SIGMA


class TestKinds:
    @pytest.mark.parametrize(
        ('similarity', 'kind'),
        [(1, GOOD), (0.851, GOOD), (0.849, JITTER), (0.501, JITTER), (0.499, MISS), (0.001, MISS)],
    )
    def test_by_similarity_to_the_right_place(self, tmp_path, similarity, kind):
        kinds, _, _ = judged(
            truth_of(tmp_path, person(1)), row(moved(LEFT_HAND, [0, distance(similarity)]))
        )
        assert kinds.tolist() == [[GOOD, kind, GOOD, GOOD, GOOD]]

    def test_thresholds_are_options(self, tmp_path):
        points = row(moved(LEFT_HAND, [0, distance(0.7)]))
        truth = truth_of(tmp_path, person(1))
        assert judged(truth, points, good=0.69)[0][0, LEFT_HAND] == GOOD
        assert judged(truth, points, near=0.71)[0][0, LEFT_HAND] == MISS

    def test_similarity_grows_with_the_person(self, tmp_path):
        far = row(moved(LEFT_HAND, [0, distance(0.3)]))
        assert judged(truth_of(tmp_path, person(1)), far)[0][0, LEFT_HAND] == MISS
        large = truth_of(tmp_path, person(1, area=10 * AREA))
        assert judged(large, far)[0][0, LEFT_HAND] == GOOD  # 0.3 ** (1 / 10) = 0.887

    @pytest.mark.parametrize(('similarity', 'kind'), [(0.51, INVERSION), (0.49, MISS)])
    def test_near_the_other_hand(self, tmp_path, similarity, kind):
        points = POINTS.copy()
        points[LEFT_HAND] = POINTS[RIGHT_HAND] + [0, distance(similarity)]
        kinds, _, _ = judged(truth_of(tmp_path, person(1)), row(points))
        assert kinds.tolist() == [[GOOD, kind, GOOD, GOOD, GOOD]]

    def test_near_another_part_is_a_miss_unless_asked_for(self, tmp_path):
        points = POINTS.copy()
        points[LEFT_HAND] = POINTS[3]
        truth = truth_of(tmp_path, person(1))
        assert judged(truth, row(points))[0][0, LEFT_HAND] == MISS
        assert judged(truth, row(points), any_part=True)[0][0, LEFT_HAND] == INVERSION

    def test_a_head_has_no_mirror_image(self, tmp_path):
        kinds, _, _ = judged(truth_of(tmp_path, person(1)), row(moved(0, [500, 0])))
        assert kinds[0, 0] == MISS

    @pytest.mark.parametrize('other', [LEFT_HAND, RIGHT_HAND])
    def test_near_a_hand_of_another_person(self, tmp_path, other):
        points = POINTS.copy()
        points[LEFT_HAND] = POINTS[other] + [1000, 0]
        kinds, _, _ = judged(truth_of(tmp_path, person(1), person(2, 1000)), row(points))
        assert kinds.tolist() == [[GOOD, SWAP, GOOD, GOOD, GOOD]]

    def test_a_person_in_another_image_is_no_other_person(self, tmp_path):
        points = POINTS.copy()
        points[LEFT_HAND] += [1000, 0]
        truth = truth_of(tmp_path, person(1), person(2, 1000, image_id=2))
        assert judged(truth, row(points))[0][0, LEFT_HAND] == MISS

    def test_the_nearer_of_two_wrong_places_decides(self, tmp_path):
        there = POINTS[RIGHT_HAND]
        for shift, kind in ((distance(0.9), INVERSION), (distance(0.6), SWAP)):
            # The other person's left hand stands a little beside this one's right hand.
            gap = distance(0.9) + distance(0.6)
            other = person(2, there[0] + gap - POINTS[LEFT_HAND][0])
            points = POINTS.copy()
            points[LEFT_HAND] = there + np.array([shift, 0])
            kinds, _, _ = judged(truth_of(tmp_path, person(1), other), row(points))
            assert kinds[0, LEFT_HAND] == kind

    def test_a_right_keypoint_is_no_error_though_a_wrong_place_is_nearer(self, tmp_path):
        near = POINTS.copy()
        near[RIGHT_HAND] = POINTS[LEFT_HAND] + [distance(0.6), 0]
        flat = np.column_stack([near, np.full(5, 2)]).ravel().tolist()
        points = near.copy()
        points[LEFT_HAND] += [distance(0.6) - 0.1, 0]
        kinds, _, _ = judged(truth_of(tmp_path, person(1, keypoints=flat)), row(points))
        assert kinds[0, LEFT_HAND] == JITTER

    def test_unlabelled_keypoints_are_not_judged(self, tmp_path):
        flat = np.column_stack([POINTS, [2, 0, 1, 2, 2]]).ravel().tolist()
        truth = truth_of(tmp_path, person(1, keypoints=flat, num_keypoints=4))
        kinds, _, _ = judged(truth, row(moved(LEFT_HAND, [900, 900])))
        assert kinds.tolist() == [[GOOD, UNJUDGED, GOOD, GOOD, GOOD]]
        points = POINTS.copy()
        points[RIGHT_HAND] = POINTS[LEFT_HAND]  # nothing is labelled there to be confused with
        assert judged(truth, row(points))[0][0, RIGHT_HAND] == MISS


class TestMatching:
    def test_kinds_of_detections(self, tmp_path):
        truth = truth_of(
            tmp_path,
            person(1),
            person(2, 1000, num_keypoints=0, keypoints=[0] * 15),
            person(3, 3000, iscrowd=1, num_keypoints=0, keypoints=[0] * 15),
        )
        rows = [
            row(POINTS, score=0.4),
            row(shifted(2, 0), score=0.6),
            row(shifted(1000, 0)),
            row(shifted(3000, 0)),
            row(shifted(3001, 0)),
            row(POINTS + 9000),
        ]
        _, kinds, _ = judged(truth, *rows)
        assert kinds == ['duplicate', 'matched', *['ignored'] * 3, 'background']

    def test_the_surer_detection_chooses_first(self, tmp_path):
        truth = truth_of(tmp_path, person(1), person(2, distance(0.6)))
        between = shifted(distance(0.6) * 0.6, 0)
        rows = [row(between, score=0.9), row(shifted(distance(0.6), 0), score=0.8)]
        kinds, names, _ = judged(truth, *rows)
        assert names == ['matched', 'matched']
        assert set(kinds[1].tolist()) == {JITTER}  # what is left to it is the first person

    @pytest.mark.parametrize(('oks', 'name'), [(0.11, 'matched'), (0.09, 'background')])
    def test_the_threshold(self, tmp_path, oks, name):
        truth = truth_of(tmp_path, person(1))
        assert judged(truth, row(shifted(0, distance(oks))))[1] == [name]
        assert judged(truth, row(shifted(0, distance(0.3))), match_oks=0.5)[1] == ['background']

    def test_only_the_20_best_of_an_image(self, tmp_path):
        truth = truth_of(tmp_path, person(1))
        rows = [row(shifted(i / 10, 0), score=i / 100) for i in range(25)]
        diagnosis = diagnose(truth, check_results(rows, truth, 'here'))
        assert diagnosis.detections['beyond'] == 5
        assert diagnosis.detections['matched'] + diagnosis.detections['duplicate'] == 20
        assert diagnosis.detections['total'] == 25


class TestCures:
    def goals(self, tmp_path, kind, points, **options):
        truth = truth_of(tmp_path, person(1), person(2, 1000))
        _, _, (scene, errors) = judged(truth, row(points))
        matches = match(scene.pairs, scene.oks, truth, 0.1)
        return cure(kind, scene, errors, matches, Options(**options)).points[0]

    @pytest.mark.parametrize(
        ('kind', 'place', 'similarity'),
        [
            ('jitter', POINTS[LEFT_HAND] + [0, distance(0.6)], 0.85),
            ('miss', POINTS[LEFT_HAND] + [0, 300], 0.5),
            ('inversion', POINTS[RIGHT_HAND] + [0, distance(0.7)], 0.7),
            ('swap', POINTS[LEFT_HAND] + [1000, distance(0.6)], 0.6),
        ],
    )
    def test_where_keypoints_go(self, tmp_path, kind, place, similarity):
        points = POINTS.copy()
        points[LEFT_HAND] = place
        np.testing.assert_array_equal(self.goals(tmp_path, kind, points), POINTS)
        paper = self.goals(tmp_path, kind, points, cure='paper')
        expected = moved(LEFT_HAND, [distance(similarity), 0])
        np.testing.assert_allclose(paper, expected, atol=1e-9)
        others = {'jitter', 'miss', 'inversion', 'swap'} - {kind}
        for other in others:
            np.testing.assert_array_equal(self.goals(tmp_path, other, points), points)


class TestScore:
    def scores(self, truth, *rows):
        scene = Scene.of(truth, check_results(list(rows), truth, 'here'))
        return scene.ideal_score()[np.argsort(scene.detections.row)]

    def test_the_best_detection_of_each_person_has_its_oks(self, tmp_path):
        truth = truth_of(tmp_path, person(1), person(2, 1000))
        shifts = [distance(0.7), distance(0.9), 1000 + distance(0.6), 5000]
        scores = self.scores(truth, *(row(shifted(shift, 0)) for shift in shifts))
        assert scores == pytest.approx([0, 0.9, 0.6, 0])

    def test_a_second_best_finds_another_person(self, tmp_path):
        truth = truth_of(tmp_path, person(1), person(2, distance(0.6)))
        scores = self.scores(truth, row(POINTS), row(shifted(-distance(0.9), 0)))
        similar = math.exp(math.log(0.9) * (1 + distance(0.6) / distance(0.9)) ** 2)
        assert scores == pytest.approx([1, similar])

    def test_who_is_not_asked_for_gives_no_score(self, tmp_path):
        """Two detections near a person without keypoints: one is ignored, the other is wrong."""
        truth = truth_of(tmp_path, person(1), person(2, 1000, num_keypoints=0, keypoints=[0] * 15))
        rows = [row(shifted(distance(0.92), 0)), *(row(shifted(1000 + i, 0)) for i in (0, 1))]
        assert self.scores(truth, *rows) == pytest.approx([0.92, 0, 0])
        diagnosis = diagnose(truth, check_results(rows, truth, 'here'))
        assert diagnosis.cured['score']['alone'] == pytest.approx(0.9)  # all thresholds but 0.95


class TestOptions:
    @pytest.mark.parametrize(
        'options',
        [
            {'near': 0.9},
            {'near': 0},
            {'good': 1.1},
            {'match_oks': 0},
            {'pck_thr': 0},
            {'cure': 'x'},
        ],
    )
    def test_nonsense_is_refused(self, options):
        with pytest.raises(ValueError, match=r'expected|must be'):
            Options(**options)


class TestGroups:
    def test_overlap_counts_other_persons_but_not_crowds(self, tmp_path):
        truth = truth_of(
            tmp_path,
            person(1),
            person(2, 200),  # IoU 1/3 with the first
            person(3, 330, num_keypoints=0, keypoints=[0] * 15),  # 0.096 with the first, 0.5 ...
            person(4, 0, iscrowd=1, num_keypoints=0, keypoints=[0] * 15),
            person(5, image_id=2),
        )
        assert overlapping(truth)[[0, 1, 4]].tolist() == [1, 2, 0]

    def test_divisions(self, tmp_path):
        sizes = [1000.0, 5000.0, 9000.0, 20000.0]
        truth = truth_of(
            tmp_path, *(person(i, image_id=i, area=area) for i, area in enumerate(sizes, 1))
        )
        found = {(g.division, g.name): g.persons.tolist() for g in groups(truth)}
        assert found['size', 'small'] == [True, False, False, False]
        assert found['size', 'medium'] == [False, True, True, False]
        assert found['size', 'large'] == [False, False, False, True]
        assert [sum(p) for (d, _), p in found.items() if d == 'quartile'] == [1, 1, 1, 1]
        assert found['crowding', '0'] == [True] * 4
        assert found['keypoints', '1 to 5'] == [True] * 4
        assert ('keypoints', '6 to 10') not in found


class TestAuthors:
    """Their code (github.com/matteorr/coco-analyze) on these very predictions, run once."""

    def predictions(self, path):
        rng = np.random.default_rng(5)
        mirror = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
        rows = []
        for again in range(2):
            for entry in json.loads(path.read_text())['annotations']:
                if entry['num_keypoints'] == 0 or entry['iscrowd']:
                    continue
                labels = np.array(entry['keypoints'], float).reshape(17, 3)
                x, y, w, h = entry['bbox']
                points = np.where(labels[:, 2:] > 0, labels[:, :2], [x + w / 2, y + h / 2])
                noise = rng.normal(0, 1, (17, 2)) * rng.exponential(0.06, (17, 1))
                points = points + noise * np.sqrt(w * h)
                if rng.random() < 0.2:
                    points = points[mirror]
                if again and rng.random() < 0.5:
                    continue
                score = float(rng.random())
                rows.append({**row(points, entry['image_id'], score), 'category_id': 1})
        return rows

    def test_counts(self, shared_data):
        path = shared_data / 'coco_mini/annotations/person_keypoints_dev.json'
        truth = read_ground_truth(path)
        kinds, names, (_, errors) = judged(truth, *self.predictions(path))
        assert names.count('matched') == 78
        assert (kinds == MISS).sum() == 188
        # Theirs is the nearest place whatever the right one's similarity, see `judge`.
        right = errors.own >= errors.confused
        assert ((errors.kind == GOOD) & right).sum() == 356
        assert ((errors.kind == JITTER) & right).sum() == 115
        wrong = np.isin(errors.kind, (INVERSION, SWAP)) | ((errors.kind >= GOOD) & ~right)
        assert (wrong & (errors.kind != MISS)).sum() == 82 + 25


def test_oks_is_the_evaluator_s(tmp_path):
    """Of persons with labels and without, against the formula in a plain loop."""
    truth = truth_of(tmp_path, person(1), person(2, 500, num_keypoints=0, keypoints=[0] * 15))
    points = POINTS + np.random.default_rng(0).normal(0, 30, (5, 2))
    scene = Scene.of(truth, check_results([row(points), row(points + 300)], truth, 'here'))
    expected = []
    for there in (points, points + 300):
        gaps = [np.linalg.norm(there[k] - POINTS[k]) for k in range(5)]
        expected.append(gaps)
        low, high = (100, -400), (1300, 800)  # the box, doubled on each side
        outside = [
            math.hypot(*(max(0, low[i] - p[i], p[i] - high[i]) for i in (0, 1))) for p in there
        ]
        expected.append(outside)
    values = [
        np.mean([math.exp(-(g**2) / (2 * AREA * (2 * SIGMA) ** 2)) for g in gaps])
        for gaps in expected
    ]
    np.testing.assert_allclose(
        oks_of_pairs(scene.pairs, scene.points, truth, np.full(5, SIGMA)), values, rtol=1e-12
    )
