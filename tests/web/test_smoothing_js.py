"""The page's smoothing of tracked poses: the One-Euro filter, and what is shown between, without and after a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thadistill.pose import POSE_PARAMETERS

from .javascript import run

FILTER = """import { OneEuroFilter } from './drive/one_euro.js';
const answer = (runs) => runs.map(({ samples, cutoff, speed }) => {
  const filter = new OneEuroFilter();
  return samples.map(([value, time]) => filter.next(value ?? NaN, time ?? NaN, { cutoff, speed }));
});"""


def one_euro(samples: list[tuple[float, float]], cutoff: float, speed: float) -> list[float]:
    """The paper's algorithm, written down once more (values and times finite, times rising)."""

    def share(frequency: float, step: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * frequency * step))

    value, raw, derivative, (_, last) = samples[0][0], samples[0][0], 0.0, samples[0]
    smooth = [value]
    for new, time in samples[1:]:
        step, last = time - last, time
        a = share(1.0, step)
        derivative = a * (new - raw) / step + (1 - a) * derivative
        a = share(cutoff + speed * abs(derivative), step)
        value, raw = a * new + (1 - a) * value, new
        smooth.append(value)
    return smooth


def filtered(folder: Path, *runs: dict[str, Any]) -> list[list[float]]:
    found = run(FILTER, folder, list(runs))
    assert isinstance(found, list)
    return found


def test_as_the_paper_has_it_at_irregular_times(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    times = np.cumsum(generator.uniform(0.005, 0.3, 200))
    samples = [(float(value), float(time)) for value, time in zip(generator.uniform(-1, 1, 200), times, strict=True)]
    (found,) = filtered(tmp_path, {"samples": samples, "cutoff": 1.5, "speed": 0.7})
    np.testing.assert_allclose(found, one_euro(samples, 1.5, 0.7), rtol=1e-9)


def test_noise_goes_and_a_step_comes(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    noise = [(float(generator.normal(0.5, 0.02)), i / 30) for i in range(300)]
    step = [(float(i >= 30), i / 30) for i in range(90)]
    still, slow, fast = filtered(
        tmp_path,
        {"samples": noise, "cutoff": 1.5, "speed": 0},
        {"samples": step, "cutoff": 1.5, "speed": 0},
        {"samples": step, "cutoff": 1.5, "speed": 3},
    )
    assert np.std(still[60:]) < 0.5 * np.std([value for value, _ in noise[60:]])
    for response in (slow, fast):
        assert max(response[:30]) == 0
        assert (np.diff(response[30:]) >= 0).all()  # no overshoot
        assert response[-1] > 0.99
    assert fast[32] > 0.8 > slow[32]  # a tenth of a second after it


def test_what_is_not_a_number_or_not_later_is_not_seen(tmp_path: Path) -> None:
    clean = [(0.1, 0.0), (0.4, 0.1), (0.2, 0.2)]
    dirty = [(None, 0.0), (0.1, 0.0), (None, 0.05), (0.4, 0.1), (9.0, 0.1), (9.0, 0.05), (9.0, None), (0.2, 0.2)]
    expected, found = filtered(
        tmp_path,
        {"samples": clean, "cutoff": 1, "speed": 1},
        {"samples": dirty, "cutoff": 1, "speed": 1},
    )
    assert found[0] is None  # JSON for not a number
    assert found[1:] == [
        expected[0], expected[0], expected[1], expected[1], expected[1], expected[1], expected[2],
    ]  # fmt: skip


POSES = """import { PoseFilter, partOf } from './drive/one_euro.js';
import { POSE_PARAMETERS, rest } from './pose.js';
const full = () => rest().fill(1);
const answer = (smoothings) => ({
  parts: Object.fromEntries(POSE_PARAMETERS.map((name) => [name, partOf(name)])),
  steps: smoothings.map((smoothing) => {
    const filter = new PoseFilter();
    filter.next(rest(), 0, smoothing);
    return [...filter.next(full(), 1 / 30, smoothing)];
  }),
});"""


def test_eyes_are_fast_and_mouths_slower(tmp_path: Path) -> None:
    found = run(POSES, tmp_path, [0, 0.25, 0.5, 1])
    parts = found["parts"]
    assert parts["eye_wink_left"] == parts["iris_rotation_x"] == "eyes"
    assert parts["mouth_aaa"] == parts["eyebrow_angry_left"] == "mouth"
    assert parts["head_x"] == parts["body_z"] == "head"
    none, little, usual, strong = (dict(zip(POSE_PARAMETERS, step, strict=True)) for step in found["steps"])
    assert set(none.values()) == {1}
    for name in ("eye_wink_left", "head_x", "mouth_aaa"):
        assert 1 > little[name] > usual[name] > strong[name] > 0
    assert usual["eye_wink_left"] > usual["head_x"] > usual["mouth_aaa"]


FOLLOWER = """import { PoseFollower } from './drive/follower.js';
import { rest } from './pose.js';
const answer = ({ seen, from, to, step, smoothing }) => {
  const follower = new PoseFollower();
  const shown = [];
  for (let now = from; now < to; now += step) {
    while (seen.length && seen[0][0] <= now) {
      const [time, value] = seen.shift();
      follower.track(rest().fill(value), time, smoothing);
    }
    shown.push([now, follower.at(now)[0], follower.isLost(now)]);
  }
  return shown;
};"""


def follow(folder: Path, seen: list[tuple[float, float]], smoothing: float = 0.5, to: float = 12.0) -> np.ndarray:
    """Rows of time, shown value and whether the face is lost, on a display of 60 frames a second."""
    given = {"seen": seen, "from": 0, "to": to, "step": 1 / 60, "smoothing": smoothing}
    return np.array(run(FOLLOWER, folder, given), dtype=float)


def test_a_lost_face_is_held_then_let_go_and_found_again(tmp_path: Path) -> None:
    seen = [(i / 15, 1.0) for i in range(30)] + [(8 + i / 15, 1.0) for i in range(60)]  # none from 2 to 8 s
    time, shown, lost = follow(tmp_path, seen).T
    assert shown[(time > 1) & (time < 2.6)].min() > 0.99  # tracked, then held
    assert not lost[(time > 0) & (time < 2.6)].any()
    assert lost[(time > 3.1) & (time < 7.9)].all()
    assert 0.3 < np.interp(3.5, time, shown) < 0.7  # on its way
    assert shown[(time > 6) & (time < 7.9)].max() < 1e-2  # at rest
    assert np.abs(np.diff(shown)).max() < 0.12  # no jump, neither away nor back
    assert shown[time > 9.5].min() > 0.99


def test_steps_of_the_tracker_are_not_seen(tmp_path: Path) -> None:
    seen = [(i / 15, float(np.sin(i / 15))) for i in range(180)]
    time, shown, lost = follow(tmp_path, seen).T
    steps = np.diff(shown[(time > 1) & (time < 11)])
    assert np.abs(np.diff(steps)).max() < 0.5 * np.abs(steps).max()
    assert not lost[(time > 0) & (time < 11)].any()
    assert np.abs(shown - np.sin(time - 0.1))[time > 1].max() < 0.12  # a tenth of a second late


def test_without_smoothing_poses_are_shown_as_they_come(tmp_path: Path) -> None:
    seen = [(i / 15, float(i % 2)) for i in range(90)]
    time, shown, _ = follow(tmp_path, seen, smoothing=0, to=6).T
    settled = shown[(time > 1) & (time < 5.9)]
    assert np.minimum(np.abs(settled), np.abs(settled - 1)).max() < 1e-3


def test_a_slow_tracker_is_not_a_lost_face(tmp_path: Path) -> None:
    seen = [(0.6 * i, 1.0) for i in range(20)]
    time, _, lost = follow(tmp_path, seen).T
    assert not lost[(time > 3) & (time < 11)].any()
