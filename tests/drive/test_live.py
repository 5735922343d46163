"""Live: what wins, what is held, what comes back, and what stays bounded, by a clock of the tests' own or a real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import pytest
import torch

from thadistill.drive import Player, TimedPose, drive, read_track
from thadistill.drive.follower import HOLD_S, Follower
from thadistill.drive.live import LiveStatus
from thadistill.drive.player import Latency, Latest
from thadistill.drive.recording import Recording
from thadistill.drive.sinks import Shown
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from .live_sources import ALL, Scripted, pose_with

HEAD_Y = POSE_PARAMETERS.index("head_y")
BREATHING = POSE_PARAMETERS.index("breathing")
WINK = POSE_PARAMETERS.index("eye_wink_left")


class Kept:
    """A sink that keeps what it shows, slowly if it is to."""

    name, takes_frames, fps = "kept", False, 100.0

    def __init__(self, slow_s: float = 0.0, most: int | None = None) -> None:
        self.shown: list[Shown] = []
        self.states: list[str] = []
        self.slow_s, self.most, self.closed = slow_s, most, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def take(self, shown: Shown) -> None:
        time.sleep(self.slow_s)
        if self.most is not None and len(self.shown) >= self.most:
            raise UserError("no room")
        self.shown.append(shown)

    def tell(self, source: str, state: str) -> None:
        self.states.append(state)

    def status(self) -> str:
        return ""

    def values(self, index: int) -> list[float]:
        return [float(shown.pose[index]) for shown in self.shown]


def follow(follower: Follower, times: np.ndarray) -> np.ndarray:
    return np.stack([follower.at(t).numpy() for t in times])


def test_a_silent_source_is_held_then_rests_and_comes_back_smoothly() -> None:
    follower = Follower()
    assert follower.state(0.0) == "waiting"
    for t in np.arange(0, 1, 1 / 60):
        follower.track(pose_with(head_y=0.8, breathing=0.5), t)
        pose = follower.at(t)
    assert float(pose[HEAD_Y]) == pytest.approx(0.8, abs=1e-3)
    assert follower.state(1.0) == "driven"
    held = follow(follower, np.arange(1, 0.98 + HOLD_S, 1 / 60))
    assert np.abs(held[:, HEAD_Y] - 0.8).max() < 1e-3
    assert follower.state(1.5) == "held"
    gone = follow(follower, np.arange(1 + HOLD_S, 8, 1 / 60))
    assert follower.state(7.9) == "resting"
    assert np.all(np.diff(gone[:, HEAD_Y]) <= 0)
    assert np.abs(np.diff(gone[:, HEAD_Y])).max() < 0.05  # eased: no jump
    assert gone[-1, HEAD_Y] < 1e-3
    back = []
    for t in np.arange(8, 10, 1 / 60):
        follower.track(pose_with(head_y=0.8), t)
        back.append(float(follower.at(t)[HEAD_Y]))
    assert np.abs(np.diff([0.0, *back])).max() < 0.12
    assert back[-1] == pytest.approx(0.8, abs=1e-3)


def test_it_breathes_and_blinks_while_nothing_drives_it() -> None:
    poses = follow(Follower(), np.arange(0, 30, 1 / 60))
    low, high = np.array(POSE_PARAMETERS.low), np.array(POSE_PARAMETERS.high)
    assert ((poses >= low) & (poses <= high)).all()
    breaths = np.sum(np.diff((poses[:, BREATHING] > 0.5).astype(int)) == 1)
    assert breaths == pytest.approx(10, abs=1)  # 20 a minute
    blinks = np.sum(np.diff((poses[:, WINK] > 0.5).astype(int)) == 1)
    assert 4 <= blinks <= 20
    still = [i for i in range(45) if POSE_PARAMETERS[i] not in ("breathing", "eye_wink_left", "eye_wink_right")]
    assert not poses[:, still].any()


def test_what_is_not_driven_moves_by_itself() -> None:
    def shown(drives: frozenset[str]) -> np.ndarray:
        follower = Follower(drives)
        made = []
        for t in np.arange(0, 20, 1 / 60):
            follower.track(pose_with(mouth_aaa=0.7), t)
            made.append(follower.at(t).numpy())
        return np.stack(made)[60:]

    mouth = shown(frozenset({"mouth_aaa"}))
    assert mouth[:, BREATHING].max() > 0.9
    assert mouth[:, WINK].max() > 0.9
    face = shown(ALL)
    assert face[:, BREATHING].max() < 1e-3
    assert face[:, WINK].max() < 1e-3


def test_the_slot_holds_the_newest_alone() -> None:
    slot: Latest[int] = Latest()
    for item in range(1000):
        slot.put(item)
    assert (slot.take(0.0), slot.take(0.0), slot.replaced) == (999, None, 999)
    began = time.monotonic()
    assert slot.take(0.05) is None
    assert time.monotonic() - began >= 0.04
    threading.Timer(0.05, slot.put, (7,)).start()
    assert slot.take(5.0) == 7


def test_latency_is_numpys_quantile() -> None:
    latency, given = Latency(), np.random.default_rng(0).gamma(3, 8, 5000)
    for ms in given:
        latency.add(float(ms))
    for share in (0.5, 0.95):
        assert latency.at(share) == pytest.approx(np.quantile(given, share), abs=0.5)
        assert latency.lately(share) == pytest.approx(np.quantile(given[-300:], share))
    assert Latency().at(0.5) is None


def test_a_slow_sink_shows_the_newest() -> None:
    sink = Kept(slow_s=0.05)
    began = time.monotonic()
    with Player(None, sink, smoothing=0.0) as player:
        for step in range(100):
            player.show(pose_with(head_y=step / 100))
            time.sleep(0.005)
    assert sink.closed
    assert 5 <= len(sink.shown) <= 20
    # a frame is late by no more than one showing, and those waiting for a thread: nothing stands in line
    assert sink.shown[-1].time - began == pytest.approx(time.monotonic() - began, abs=0.3)
    assert sink.values(HEAD_Y)[-1] == pytest.approx(0.99, abs=0.011)
    status = player.status()
    assert status.poses == 100
    assert status.frames == len(sink.shown)
    assert 50 < (player.latency.at(0.5) or 0) < 250


def test_the_last_pose_is_shown() -> None:
    """A welcome eases towards it; what is asked of the follower is the last."""
    sink = Kept()
    with Player(None, sink) as player:
        player.show(pose_with(head_y=1.0))
    assert sink.shown[-1].arrived is not None


def test_a_sink_that_takes_no_more_ends_it() -> None:
    sink = Kept(most=3)

    def script() -> Iterator[TimedPose]:
        while True:
            time.sleep(0.005)
            yield TimedPose(pose_with(), time.monotonic())

    with pytest.raises(UserError, match="no room"), Scripted(script) as source, Player(None, sink) as player:
        drive(source, player, threading.Event())
    assert sink.closed


def test_a_file_that_ends_ends_it_and_a_bug_is_not_hidden() -> None:
    def script() -> Iterator[TimedPose]:
        for _ in range(3):
            yield TimedPose(pose_with(), time.monotonic())

    sink = Kept()
    with Scripted(script) as source, Player(None, sink) as player:
        status = drive(source, player, threading.Event())
    assert status.player.poses == 3

    def broken() -> Iterator[TimedPose]:
        yield TimedPose(pose_with(), time.monotonic())
        raise KeyError("bug")

    with pytest.raises(KeyError), Scripted(broken) as source, Player(None, Kept()) as player:
        drive(source, player, threading.Event())


def test_a_camera_that_is_pulled_out_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thadistill.drive.live.RETRY_S", 0.1)
    monkeypatch.setattr("thadistill.drive.live.STATUS_S", 0.02)
    seen: list[LiveStatus] = []

    def script() -> Iterator[TimedPose | None]:
        for _ in range(10):
            time.sleep(0.01)
            yield TimedPose(pose_with(), time.monotonic())
        if source.opened < 3:
            raise OSError("the camera is gone")

    source = Scripted(script)
    sink = Kept()
    with source, Player(None, sink) as player:
        drive(source, player, threading.Event(), seen.append)
    assert source.opened == 3
    assert {"driven", "failed"} <= set(sink.states)
    assert any("the camera is gone" in status.line() for status in seen)
    assert sum(shown.arrived is not None for shown in sink.shown) >= 20


def test_a_source_that_cannot_be_opened_again_is_tried_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thadistill.drive.live.RETRY_S", 0.02)

    class Stubborn(Scripted):
        def __enter__(self) -> Self:
            super().__enter__()
            if 1 < self.opened < 5:
                raise UserError("camera=0 cannot be opened")
            return self

    def script() -> Iterator[TimedPose | None]:
        yield TimedPose(pose_with(), time.monotonic())
        if source.opened == 1:
            raise UserError("the camera is gone")

    with Stubborn(script) as source, Player(None, Kept()) as player:
        status = drive(source, player, threading.Event())
    assert source.opened == 5
    assert status.player.poses == 2


def test_a_recording_is_a_track(tmp_path: Path) -> None:
    sink, path = Kept(), tmp_path / "poses.json"
    with Player(None, sink, record=str(path)) as player:
        for step in range(60):
            player.show(pose_with(head_y=step / 60))
            time.sleep(0.01)
    track = read_track(path)
    assert track.seconds == pytest.approx(0.6, abs=0.2)
    shown = torch.stack([shown.pose for shown in sink.shown])
    assert len(track.poses) >= len(shown)  # the sink leaves out what it is too slow for, the recording does not
    assert torch.allclose(track.poses[-1], shown[-1], atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["poses.json"]


def test_recordings_leave_nothing_half_written(tmp_path: Path) -> None:
    with Recording(tmp_path / "none.json"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"ends in \.json"):
        Recording(tmp_path / "poses.npy")
    with pytest.raises(UserError, match="cannot be written"), Recording(tmp_path / "file" / "a.json"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_minutes_of_packets_leave_memory_flat_and_do_not_drift(tmp_path: Path) -> None:
    """As experiments/latency does for an hour: five minutes of packets, at 60 a second of a clock that is simulated."""
    follower, latency = Follower(), Latency()
    slot: Latest[TimedPose] = Latest()
    process = psutil.Process()
    sizes: list[int] = []
    with Recording(tmp_path / "poses.json") as recording:
        for packet in range(5 * 60 * 60):
            now = packet / 60
            slot.put(TimedPose(pose_with(head_y=np.sin(now)), now))
            if packet % 2:  # the character is shown half as often
                timed = slot.take(0.0)
                assert timed is not None
                follower.track(timed.pose, now)
                pose = follower.at(now)
                recording.write(pose, now)
                latency.add(1000 * (now - timed.time))
                if now > 1:
                    assert abs(float(pose[HEAD_Y]) - np.sin(now)) < 1e-4
            if packet % 1800 == 0:
                sizes.append(process.memory_info().rss)
    assert max(sizes[2:]) - sizes[1] < 20 * 2**20
    times = [pose["time"] for pose in json.loads((tmp_path / "poses.json").read_text())["poses"]]
    assert times[-1] == pytest.approx(5 * 60 - 2 / 60, abs=1e-3)
    assert latency.at(0.95) == pytest.approx(0.25)
