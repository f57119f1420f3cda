"""The official .mat, as MATLAB writes it, in the field's JSON layout."""

import pytest
from scipy.io import savemat

from psa_pose.datasets.prepare.mpii_official import read_official, split
from psa_pose.errors import DataError
from tests.mpii_mat import EMPTY, HEAD, person, write, write_truth


def test_a_person(tmp_path):
    path = write(tmp_path / 'o.mat', [('a.jpg', 1, [person()]), ('b.jpg', 1, [person()])])
    train, test = read_official(path)
    assert test == []
    assert len(train) == 2
    found = train[0]
    assert found['image'] == 'a.jpg'
    assert (found['center'], found['scale']) == ([60.0, 70.0], 1.5)
    assert found['headbox'] == [10.0, 11.0, 30.0, 41.0]
    assert found['joints_vis'] == [1] + [0] * 14 + [1]
    assert found['joints'][0] == [5.0, 6.0]
    assert found['joints'][15] == [7.5, 8.25]
    assert found['joints'][1:15] == [[-1.0, -1.0]] * 14


def test_who_is_converted(tmp_path):
    images = [
        ('none.jpg', 1, []),
        ('one.jpg', 1, [person(joints=((3, 1, 2),))]),
        ('two.jpg', 1, [person(), person(scale=EMPTY), person(objpos=EMPTY), person(joints=())]),
        ('bare.jpg', 1, [HEAD]),
        ('test.jpg', 0, [person(joints=()), HEAD]),
    ]
    train, test = read_official(write(tmp_path / 'o.mat', images))
    assert [e['image'] for e in train] == ['one.jpg', 'two.jpg']
    assert train[0]['joints'][3] == [1.0, 2.0]
    assert [e['image'] for e in test] == ['test.jpg']
    assert 'joints' not in test[0]


def test_the_split_is_found_again(tmp_path):
    images = [
        (f'{i}.jpg', 1, [person(x1=float(i), joints=((0, i, 6), (9, 1, 1))) for _ in range(1)])
        for i in range(6)
    ]
    images[4][2].append(person(x1=20.0))
    train, _ = read_official(write(tmp_path / 'o.mat', images))
    chosen = [train[4], train[1]]
    rest, val = split(train, write_truth(tmp_path / 'gt.mat', chosen))
    assert val == chosen
    assert [e['image'] for e in rest] == ['0.jpg', '2.jpg', '3.jpg', '5.jpg']


def test_a_truth_of_others_gives_no_split(tmp_path):
    images = [(f'{i}.jpg', 1, [person(x1=float(i))]) for i in range(3)]
    train, _ = read_official(write(tmp_path / 'o.mat', images))
    stranger = {**train[0], 'joints': [[99.0, 99.0]] * 16}
    assert split(train, write_truth(tmp_path / 'gt.mat', [train[1], stranger])) is None


def test_twins_give_no_split(tmp_path):
    train, _ = read_official(
        write(tmp_path / 'o.mat', [('a.jpg', 1, [person()]), ('b.jpg', 1, [person()])])
    )
    assert split(train, write_truth(tmp_path / 'gt.mat', train[:1])) is None


@pytest.mark.parametrize('content', [{'x': 1.0}, {'RELEASE': {'annolist': EMPTY}}])
def test_another_mat_is_refused(tmp_path, content):
    savemat(tmp_path / 'o.mat', content)
    with pytest.raises(DataError, match=r"o\.mat: no struct 'RELEASE'"):
        read_official(tmp_path / 'o.mat')


def test_a_strange_joint_is_named(tmp_path):
    path = write(tmp_path / 'o.mat', [('a.jpg', 1, [person(joints=((16, 1, 2),))])])
    with pytest.raises(DataError, match=r'a\.jpg: a joint with id 16'):
        read_official(path)
