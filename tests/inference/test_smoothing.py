"""One-Euro: still points rest, fast ones do not lag; persons keep their numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose import Inferencer
from psa_pose.errors import ConfigError
from psa_pose.inference.smoothing import OneEuro, Smoothing
from psa_pose.inference.tracking import PoseTracker
from psa_pose.structures import COCO_KEYPOINTS
from tests.inference.conftest import MakeVideo

FPS, SIZE = 25, 100.0
RNG = np.random.default_rng(0)
BODY = RNG.uniform([0, 0], [50, 200], (17, 2))  # of a person of 50 x 200 pixels
BOX = np.array([0, 0, 50, 200.0])


def filtered(path: np.ndarray, options: Smoothing | None = None) -> np.ndarray:
    """A point's way (T, 2), smoothed."""
    one_euro = OneEuro(path[:1], 0, options or Smoothing())
    rest = [one_euro(point[None], i / FPS, SIZE)[0] for i, point in enumerate(path[1:], 1)]
    return np.array([path[0], *rest])


class TestOneEuro:
    @given(st.floats(-1e4, 1e4), st.floats(0.01, 100), st.floats(0, 100))
    def test_a_constant_stays(self, value: float, cutoff: float, beta: float) -> None:
        path = np.full((5, 2), value)
        options = Smoothing(min_cutoff=cutoff, beta=beta)
        np.testing.assert_allclose(filtered(path, options), path, rtol=1e-12)

    def test_noise_of_a_point_at_rest_is_halved(self) -> None:
        noise = RNG.normal(0, 0.01 * SIZE, (1000, 2))
        left = filtered(noise)[25:].std() / noise[25:].std()
        assert 0.3 < left < 0.55

    @pytest.mark.parametrize(('speed', 'frames'), [(0.3, 0.8), (1, 0.4), (3, 0.2)])
    def test_the_lag_of_a_moving_point_is_less_the_faster_it_is(
        self, speed: float, frames: float
    ) -> None:
        """Sizes a second, and the frames by which it is late at most."""
        way = np.arange(100) / FPS * speed * SIZE
        late = (way - filtered(np.stack([way, 0 * way], 1))[:, 0]) / (speed * SIZE / FPS)
        assert 0 < late[-1] < frames
        plain = Smoothing(beta=0)
        assert (way - filtered(np.stack([way, 0 * way], 1), plain)[:, 0])[-1] > 4 * late[-1]

    def test_is_the_papers(self) -> None:
        """Casiez et al., algorithm 1, by hand."""
        options = Smoothing(min_cutoff=2, beta=0.5, d_cutoff=1.5)
        values = RNG.normal(0, 30, 20)

        def alpha(cutoff: float) -> float:
            return 1 / (1 + (1 / (2 * np.pi * cutoff)) * FPS)

        expected, smooth, speed = [values[0]], values[0], 0.0
        for value in values[1:]:
            speed = alpha(1.5) * ((value - smooth) * FPS) + (1 - alpha(1.5)) * speed
            share = alpha(2 + 0.5 * abs(speed) / SIZE)
            smooth = share * value + (1 - share) * smooth
            expected.append(smooth)
        found = filtered(np.stack([values, 0 * values], 1), options)
        np.testing.assert_allclose(found[:, 0], expected)

    @given(st.floats(0.01, 100), st.floats(-1000, 1000))
    def test_is_the_same_for_the_same_person_seen_from_nearer(
        self, zoom: float, shift: float
    ) -> None:
        path = np.cumsum(np.random.default_rng(1).normal(0, 5, (20, 2)), 0)
        near = OneEuro(path[:1] * zoom + shift, 0, Smoothing())
        far = OneEuro(path[:1], 0, Smoothing())
        for i, point in enumerate(path[1:], 1):
            a = near(point[None] * zoom + shift, i / FPS, SIZE * zoom)
            b = far(point[None], i / FPS, SIZE)
            np.testing.assert_allclose(a, b * zoom + shift, atol=1e-6 * max(zoom, 1))

    def test_two_frames_of_one_time_are_the_first(self) -> None:
        one_euro = OneEuro(np.zeros((1, 2)), 0, Smoothing())
        assert one_euro(np.ones((1, 2)), 0, SIZE).tolist() == [[0, 0]]

    @pytest.mark.parametrize('wrong', [{'min_cutoff': 0}, {'d_cutoff': -1}, {'beta': float('nan')}])
    def test_options_are_checked(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=rf'Smoothing: {next(iter(wrong))} must be'):
            Smoothing(**wrong)


class TestTracker:
    """Persons are `BODY`, moved."""

    def track(self, *frames: list[tuple[float, float]] | None, fps: float = FPS) -> list[list[int]]:
        """Numbers of persons at these places, frame by frame; None is a frame that is lost."""
        tracker, found = PoseTracker(COCO_KEYPOINTS.sigmas), []
        for i, places in enumerate(frames):
            if places is not None:
                shifts = np.array(places, float).reshape(-1, 2)
                points, boxes = BODY + shifts[:, None], BOX + np.tile(shifts, 2)
                found.append(tracker(points, boxes, i / fps)[1].tolist())
        return found

    def test_numbers_stay_whatever_the_order(self) -> None:
        frames = [[(0, 0), (300, 0)], [(302, 0), (2, 0)], [(4, 0), (304, 0)]]
        assert self.track(*frames) == [[0, 1], [1, 0], [0, 1]]

    @pytest.mark.parametrize('step', [4, 8, 16])
    def test_persons_who_cross_keep_theirs(self, step: int) -> None:
        """They meet in one place, and each goes on its way."""
        way = range(-160, 161, step)
        frames = [[(x, 0), (-x, 5)] for x in way]
        assert self.track(*frames) == [[0, 1]] * len(frames)
        assert any(abs(x) < 1 for x in way)

    def test_one_who_leaves_and_one_who_comes(self) -> None:
        frames = [[(0, 0), (300, 0)], [(300, 0)], [(300, 0), (600, 0)]]
        assert self.track(*frames) == [[0, 1], [1], [1, 2]]

    def test_a_short_gap_is_bridged_and_a_long_one_is_not(self) -> None:
        short = [[(0, 0)], *[[]] * 5, [(6, 0)]]
        assert self.track(*short)[-1] == [0]
        long = [[(0, 0)], *[[]] * 20, [(6, 0)]]
        assert self.track(*long)[-1] == [1]

    def test_a_sudden_move_is_followed_by_the_box(self) -> None:
        """A quarter of the box in a frame: no keypoint is near where it was."""
        assert self.track([(0, 0), (300, 0)], [(12, 50), (312, 50)]) == [[0, 1], [0, 1]]

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
    def test_numbers_are_never_given_twice(self, counts: list[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        places = [list(map(tuple, rng.uniform(0, 300, (n, 2)))) for n in counts]
        for numbers in self.track(*places):
            assert len(set(numbers)) == len(numbers) and min(numbers, default=0) >= 0

    @pytest.mark.parametrize('k', [1, 3, 133])
    def test_any_k_and_nobody(self, k: int) -> None:
        tracker = PoseTracker([0.05] * k)
        points = RNG.uniform(0, 100, (2, k, 2))
        boxes = np.array([[0, 0, 100, 100.0]] * 2)
        smooth, numbers = tracker(points, boxes, 0)
        np.testing.assert_allclose(smooth, points, rtol=1e-6)
        assert smooth.dtype == np.float32 and numbers.tolist() == [0, 1]
        smooth, numbers = tracker(points[:0], boxes[:0], 0.04)
        assert smooth.shape == (0, k, 2) and numbers.shape == (0,)


def test_scores_stay_and_each_video_begins_anew(
    inferencer: Inferencer, make_video: MakeVideo
) -> None:
    clips = [make_video(name, frames=8) for name in ('a.avi', 'b.avi')]
    boxes: Any = [np.array([[0, 0, 40, 40], [20, 0, 60, 40.0]])] * 2
    rough = list(inferencer(clips, boxes))
    smooth = list(inferencer(clips, boxes, smooth=True))
    assert all(r.tracks is None for r in rough)
    assert [r.tracks.tolist() for r in smooth] == [[0, 1]] * 16  # type: ignore[union-attr]
    for a, b in zip(rough, smooth, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(rough[8].keypoints, smooth[8].keypoints)
