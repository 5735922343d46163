"""Motion: the One-Euro filter against the paper and the page, breathing, blinks, the mirror."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.web.javascript import run
from tests.web.test_smoothing_js import one_euro
from thadistill.data.poses import sample_poses
from thadistill.drive.motion import FACE, Blinks, Idle, OneEuroFilter, PoseFilter, mirrored
from thadistill.pose import POSE_PARAMETERS

WINK = POSE_PARAMETERS.index("eye_wink_left")


def test_the_filter_is_the_papers() -> None:
    generator = np.random.default_rng(1)
    times = np.cumsum(generator.uniform(0.005, 0.3, 100))
    values = generator.uniform(-1, 1, (100, 2))
    cutoff, speed = np.array([1.5, 3.0]), np.array([0.7, 2.0])
    smooth = OneEuroFilter(cutoff, speed)
    found = np.array([smooth.next(row, time) for row, time in zip(values, times, strict=True)])
    for column in range(2):
        samples = [(float(v), float(t)) for v, t in zip(values[:, column], times, strict=True)]
        np.testing.assert_allclose(found[:, column], one_euro(samples, cutoff[column], speed[column]), rtol=1e-9)


def test_what_is_not_a_number_or_not_later_is_not_seen() -> None:
    nan = float("nan")
    dirty = [(nan, 0.0), (0.1, 0.0), (nan, 0.05), (0.4, 0.1), (9.0, 0.1), (9.0, 0.05), (9.0, nan), (0.2, 0.2)]
    clean, seen = OneEuroFilter(1, 1), OneEuroFilter(1, 1)
    expected = [float(clean.next(value, time)) for value, time in [(0.1, 0.0), (0.4, 0.1), (0.2, 0.2)]]
    a, b, c = expected
    np.testing.assert_allclose([float(seen.next(v, t)) for v, t in dirty], [nan, a, a, b, b, b, b, c])


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.5, 1.0])
def test_poses_are_smoothed_as_on_the_page(smoothing: float, tmp_path: Path) -> None:
    poses = sample_poses(40, seed=3)
    times = np.cumsum(np.random.default_rng(2).uniform(0.01, 0.1, 40))
    script = """import { PoseFilter } from './drive/one_euro.js';
    const answer = ({ poses, times, smoothing }) => {
      const filter = new PoseFilter();
      return poses.map((pose, i) => [...filter.next(Float32Array.from(pose), times[i], smoothing)]);
    };"""
    page = run(script, tmp_path, {"poses": poses.tolist(), "times": times.tolist(), "smoothing": smoothing})
    smooth = PoseFilter(smoothing)
    found = torch.stack([smooth.next(pose, float(time)) for pose, time in zip(poses, times, strict=True)])
    np.testing.assert_allclose(found, page, atol=1e-6)  # float32 in both


def test_blinks_come_at_their_rate_and_close_the_eyes() -> None:
    blinks = Blinks(per_minute=15, seed=1)
    closed = np.array([blinks.at(i / 60) for i in range(60 * 600)])
    starts = np.flatnonzero((closed[1:] > 0) & (closed[:-1] == 0))
    assert 110 < len(starts) < 190  # of 150, by the square root of it
    assert np.diff(starts).min() > 20  # a third of a second between them at least
    assert all(closed[start : start + 14].max() == 1 for start in starts[:-1])
    assert (closed > 0).mean() < 0.08
    assert Blinks(0).at(1.0) == 0
    again = Blinks(per_minute=15, seed=1)
    assert [again.at(i / 60) for i in range(600)] == closed[:600].tolist()


def test_an_idle_character_breathes_and_blinks() -> None:
    idle, calm = Idle(seed=2), Idle(breaths=0, blinks=0)
    rest = POSE_PARAMETERS.rest()[0]
    frames = torch.stack([idle.apply(rest, i / 30) for i in range(900)])
    assert frames[:, -1].max() > 0.99
    assert frames[:, WINK].max() == 1
    assert torch.equal(frames, POSE_PARAMETERS.clamp(frames))
    assert all(torch.equal(calm.apply(rest, i / 30), rest) for i in range(100))
    seen = Idle(seed=2)
    assert max(float(seen.apply(rest, i / 30, FACE)[WINK]) for i in range(900)) == 0


def test_a_mirror_changes_sides() -> None:
    poses = sample_poses(5, seed=9)
    turned = mirrored(poses)
    assert torch.equal(turned[:, WINK], poses[:, WINK + 1])
    assert torch.equal(turned[:, POSE_PARAMETERS.index("head_y")], -poses[:, POSE_PARAMETERS.index("head_y")])
    assert torch.equal(turned[:, POSE_PARAMETERS.index("head_x")], poses[:, POSE_PARAMETERS.index("head_x")])
    assert torch.equal(mirrored(turned), poses)
