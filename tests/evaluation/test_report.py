"""Tables for people."""

from psa_pose.evaluation.report import print_metrics


def lines(capsys, *args):
    print_metrics(*args)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 200
    return [line.replace('│', ' ').replace('┃', ' ').split() for line in out.splitlines()]


def test_one_row(capsys):
    found = lines(capsys, {'AP': 0.70449, 'APM': -1.0, 'boxes': 'ground truth'}, 'A title, whole')
    assert found[0] == ['A', 'title,', 'whole']
    assert ['AP', 'APM'] in found
    assert ['0.7045', '-'] in found


def test_a_row_for_each_joint(capsys):
    numbers = {'PCKh@0.5/knee': 88.126, 'PCKh@0.1/knee': 3.0, 'PCKh@0.5/hip': -1.0}
    found = lines(capsys, numbers, 'By joint', 2)
    assert ['PCKh@0.5', 'PCKh@0.1'] in found
    assert ['knee', '88.13', '3.00'] in found
    assert ['hip', '-'] in found


def test_no_numbers(capsys):
    assert lines(capsys, {'boxes': 'annotated'}, 'No PCKh here')[0] == ['No', 'PCKh', 'here']
