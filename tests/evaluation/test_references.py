"""A result beside published rows: which, and never across boxes without a warning."""

import pytest

from psa_pose.engine.config import load_config
from psa_pose.evaluation.references import (
    COCO_VAL,
    DETECTOR,
    DETECTOR_FILE,
    GROUND_TRUTH,
    REFERENCES,
    Model,
    comparison,
    model_of,
)

FIELD = f'detections {DETECTOR_FILE} (104125, score > 0.0)'


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('coco/hrnet_w32_256x192.py', Model('w32', '256x192')),
        ('coco/hrnet_w32_psa_p_256x192.py', Model('w32', '256x192', psa='parallel')),
        ('coco/simplebaseline_r50_psa_s_256x192.py', Model('r50', '256x192', psa='sequential')),
    ],
)
def test_the_model_of_a_config(name, expected):
    assert model_of(load_config(name)) == expected


@pytest.mark.parametrize(
    ('codec', 'expected'),
    [
        ({'type': 'MSRAHeatmap', 'unbiased': True}, 'dark'),
        ({'type': 'UDPHeatmap'}, 'udp'),
    ],
)
def test_the_codec_of_a_config(codec, expected):
    backbone = {'type': 'HRNet', 'arch': 'w48'}
    cfg = {'model': {'backbone': backbone}, 'codec': {**codec, 'input_size': (288, 384)}}
    assert model_of(cfg) == Model('w48', '384x288', expected)


@pytest.mark.parametrize(
    ('backbone', 'codec'),
    [
        ({'type': 'Mine'}, 'MSRAHeatmap'),
        ({'type': 'HRNet', 'extra': {'stage1': {}}}, 'MSRAHeatmap'),
        ({'type': 'HRNet', 'arch': 'w32', 'attention': {'type': 'SE'}}, 'MSRAHeatmap'),
        ({'type': 'HRNet', 'arch': 'w32'}, 'MyHeatmap'),
    ],
)
def test_a_model_without_rows(backbone, codec):
    cfg = {'model': {'backbone': backbone}, 'codec': {'type': codec, 'input_size': (192, 256)}}
    assert model_of(cfg) is None


class TestComparison:
    def test_like_for_like(self):
        lines, warnings = comparison(Model('w32', '256x192'), COCO_VAL, 0.7443, FIELD, True)
        assert lines == [
            f'this run: AP 74.4, boxes: {FIELD}',
            f'HRNet paper: AP 74.4, AR 79.8, {DETECTOR}',
            f'MMPose: AP 74.9, AR 80.4, {DETECTOR}',
        ]
        assert warnings == []

    def test_ground_truth_boxes_beside_a_detector_s(self):
        lines, warnings = comparison(Model('r50', '256x192'), COCO_VAL, 0.72, 'ground truth', True)
        assert len(lines) == 3
        (warning,) = warnings
        assert warning.startswith('not comparable: SimpleBaseline paper, MMPose: ')
        assert DETECTOR in warning and 'this run: ground-truth boxes' in warning

    def test_psa_rows_and_their_baseline_have_different_boxes(self):
        model = Model('w32', '384x288', psa='sequential')
        lines, warnings = comparison(model, COCO_VAL, 0.76, FIELD, True)
        assert [line.split(':')[0] for line in lines] == [
            'this run',
            'HRNet paper',
            'PSA paper (with PSA)',
        ]
        (warning,) = warnings
        assert GROUND_TRUTH in warning and 'HRNet' not in warning
        _, (warning,) = comparison(model, COCO_VAL, 0.76, 'ground truth', True)
        assert DETECTOR in warning and 'PSA paper' not in warning

    @pytest.mark.parametrize(('layout', 'ap'), [('parallel', 79.5), ('sequential', 79.4)])
    def test_a_row_of_the_other_layout_is_not_shown(self, layout, ap):
        model = Model('w48', '384x288', 'udp', layout)
        lines, _ = comparison(model, COCO_VAL, 0.76, 'ground truth', True)
        assert lines[1:] == [f'PSA paper (with PSA): AP {ap}, {GROUND_TRUTH}']

    def test_another_detector(self):
        boxes = 'detections mine.json (12, score > 0.0)'
        _, warnings = comparison(Model('w32', '256x192'), COCO_VAL, 0.7, boxes, True)
        assert warnings == [f'comparable with HRNet paper, MMPose only if these are {DETECTOR}']

    def test_without_flip_test(self):
        _, warnings = comparison(Model('w32', '256x192'), COCO_VAL, 0.7, FIELD, False)
        assert len(warnings) == 1 and 'flip test' in warnings[0]

    @pytest.mark.parametrize(
        ('model', 'ann_file'),
        [
            (None, COCO_VAL),
            (Model('w32', '256x192'), 'person_keypoints_val.json'),
            (Model('tiny', '128x96'), COCO_VAL),
        ],
    )
    def test_nothing_to_compare(self, model, ann_file):
        assert comparison(model, ann_file, 0.7, 'ground truth', True) == ([], [])

    def test_rows_of_the_paper_are_all_of_one_kind(self):
        for row in REFERENCES:
            assert (row.boxes == GROUND_TRUTH) == bool(row.model.psa)
