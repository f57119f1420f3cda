"""Several metrics in one evaluation: one collection of predictions, every number in place."""

import numpy as np
import pytest
from mmengine.config import Config

from psa_pose.datasets import CocoStyleDataset
from psa_pose.engine.build import build_metric
from psa_pose.errors import ConfigError, ResultError
from psa_pose.evaluation import EPE, CocoMetric, MetricGroup, PCKAccuracy
from psa_pose.evaluation.report import print_tables
from tests.handmade import coco_content, person_entry, write_dataset


@pytest.fixture
def dataset(tmp_path):
    path = write_dataset(tmp_path, coco_content([person_entry(i, image_id=i) for i in (1, 2, 3)]))
    return CocoStyleDataset(path.name, [], (48, 64), str(tmp_path))


def feed(metric, noise=2.0):
    truth = metric.dataset.persons.keypoints[..., :2].astype(float)
    points = truth + np.random.default_rng(0).normal(0, noise, truth.shape)
    usable = np.array([True, False, True])
    metric.process(np.arange(3), usable, points, np.ones(truth.shape[:2]))


def build(dataset, *evaluators):
    return build_metric(Config({'val_evaluator': list(evaluators)}), 'val_evaluator', dataset)


def test_the_same_numbers_as_each_alone(dataset):
    group = build(dataset, {'type': 'CocoMetric'}, {'type': 'PCKAccuracy'}, {'type': 'EPE'})
    feed(group)
    numbers = group.compute()
    expected = {}
    for metric in (CocoMetric(dataset), PCKAccuracy(dataset), EPE(dataset)):
        feed(metric)
        expected |= metric.compute()
    assert numbers == expected
    assert next(iter(numbers)) == 'AP'
    assert set(group.names) == set(numbers) - {'boxes'}


def test_predictions_are_shared_and_forgotten_together(dataset):
    group = build(dataset, {'type': 'CocoMetric'}, {'type': 'EPE'})
    feed(group)
    assert all(metric.predictions is group.predictions for metric in group.metrics)
    group.predictions.update({1: group.predictions[0]})  # as ranks exchange them
    group.skipped = 5
    assert all(metric.skipped == 5 for metric in group.metrics)
    assert '5 skipped' in group.metrics[1].title
    group.reset()
    assert [len(metric.predictions) for metric in group.metrics] == [0, 0]
    assert group.skipped == group.metrics[0].skipped == 0
    feed(group)
    assert sorted(group.metrics[1].predictions) == [0, 2]


def test_a_name_given_twice_is_an_error_that_names_both(dataset):
    pair = {'type': 'PCKAccuracy'}, {'type': 'PCKAccuracy', 'thr': 0.05}
    with pytest.raises(ConfigError) as caught:
        build(dataset, *pair)
    for part in ("val_evaluator: two metrics give the number 'PCK'", '@0.2', '@0.05', 'prefix'):
        assert part in str(caught.value)


def test_prefixes_keep_names_apart(dataset, capsys):
    group = build(
        dataset,
        {'type': 'PCKAccuracy'},
        {'type': 'PCKAccuracy', 'thr': 0.01, 'prefix': 'strict'},
    )
    feed(group)
    numbers = group.compute()
    assert list(numbers) == ['PCK', 'strict/PCK', 'boxes']
    assert numbers['strict/PCK'] < numbers['PCK']
    print_tables(group, numbers)
    shown = capsys.readouterr().out
    assert f'{numbers["PCK"]:.4f}' in shown
    assert f'{numbers["strict/PCK"]:.4f}' in shown


def test_names_that_are_known_only_once_computed(dataset):
    class Late(EPE):
        names = ()

        def compute(self):
            return {'AP': 1.0, 'boxes': self.boxes}

    group = MetricGroup([CocoMetric(dataset), Late(dataset)])
    feed(group)
    with pytest.raises(ResultError, match=r"number 'AP': CocoMetric .* Late"):
        group.compute()
    late = MetricGroup([EPE(dataset), Late(dataset)])
    feed(late)
    assert [list(own) for _, own in late.parts(late.compute())] == [['EPE'], ['AP']]


def test_a_table_for_each_metric_under_its_title(dataset, capsys):
    group = build(dataset, {'type': 'CocoMetric'}, {'type': 'PCKAccuracy'}, {'type': 'EPE'})
    feed(group)
    print_tables(group, group.compute())
    shown = capsys.readouterr().out
    places = [shown.index(text) for text in ('OKS-AP', 'PCK@0.2', 'EPE in pixels')]
    assert places == sorted(places)
    assert shown.count('1 skipped as unreadable') == 3


def test_results_are_the_first_metric_s(dataset, tmp_path):
    group = build(dataset, {'type': 'CocoMetric'}, {'type': 'EPE'})
    feed(group)
    assert group.results() == group.metrics[0].results()
    group.write_results(tmp_path / 'r.json')
    assert (tmp_path / 'r.json').read_text().startswith('[{"image_id": 1')


@pytest.mark.parametrize(
    ('evaluators', 'match'),
    [
        ([], 'val_evaluator: an empty list'),
        (['EPE'], r'val_evaluator\.0: expected dict'),
        ([{'type': 'EPE'}, {'type': 'PCKAcuracy'}], r"val_evaluator\.1: .*'PCKAccuracy'"),
        ([{'type': 'EPE'}, {'type': 'AUC', 'num_thr': 3}], r"val_evaluator\.1: .*'num_thrs'"),
        ([{'type': 'EPE'}, {'type': 'AUC', 'num_thrs': -1}], r'val_evaluator\.1 \(AUC\): num_thrs'),
    ],
)
def test_errors_name_their_place(dataset, evaluators, match):
    with pytest.raises(ConfigError, match=match):
        build(dataset, *evaluators)


def test_a_single_metric_is_no_group(dataset):
    config = Config({'val_evaluator': {'type': 'EPE'}})
    assert isinstance(build_metric(config, 'val_evaluator', dataset), EPE)
