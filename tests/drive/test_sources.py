"""Sources over real sockets, from files in a loop, merged; silence, spoiled packets and senders that return."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from thadistill.data.poses import sample_poses
from thadistill.drive.sources import Source, SourceOptions, TimedPose, open_source
from thadistill.drive.sources.merged import Merged
from thadistill.drive.sources.webcam import Webcam
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from . import packets
from .faces import face, write_video
from .test_sound import vowel, write_sound

AAA, WINK = POSE_PARAMETERS.index("mouth_aaa"), POSE_PARAMETERS.index("eye_wink_left")
SENT: dict[str, Callable[[float], bytes]] = {
    "ifacialmocap": lambda value: packets.ifacialmocap({"eyeBlinkLeft": 0.8 * value, "jawOpen": 0.0}),
    "vmc": lambda value: packets.vmc({"EyeBlinkLeft": 0.8 * value, "JawOpen": 0.0}),
    "openseeface": lambda value: packets.openseeface(eyes=(1.0, 1 - 0.8 * value)),
}


def first(poses: Iterator[TimedPose | None], seconds: float = 3.0) -> TimedPose:
    """The next pose within some time."""
    deadline = time.monotonic() + seconds
    for pose in poses:
        if pose is not None:
            return pose
        assert time.monotonic() < deadline, "no pose came"
    raise AssertionError("the source ended")


@pytest.mark.parametrize("name", SENT)
def test_packets_become_poses(name: str) -> None:
    with open_source(name, SourceOptions(port=0)) as source, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        assert isinstance(source, Source)
        assert source.name == name
        to = ("127.0.0.1", source.port)  # type: ignore[attr-defined]
        poses = source.poses()
        assert next(poses) is None  # silent
        for value in (0.5, 1.0):
            before = time.monotonic()
            sender.sendto(SENT[name](value), to)
            pose = first(poses)
            assert float(pose.pose[WINK]) == pytest.approx(value, abs=0.02)
            assert before <= pose.time <= time.monotonic()
        for number in range(60):
            sender.sendto(packets.spoiled(4 * number + 3)[:9000], to)
        sender.sendto(SENT[name](0.25), to)
        for _ in range(100):  # what is malformed neither ends nor moves it for good
            pose = first(poses)
            if float(pose.pose[WINK]) == pytest.approx(0.25, abs=0.02):
                break
        else:
            pytest.fail("the pose after the spoiled packets never came")


def test_the_newest_of_waiting_packets_counts() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with open_source("ifacialmocap", SourceOptions(port=0)) as source, udp as sender:
        for value in np.linspace(0.1, 1, 40):
            sender.sendto(SENT["ifacialmocap"](value), ("127.0.0.1", source.port))  # type: ignore[attr-defined]
        assert float(first(source.poses()).pose[WINK]) == pytest.approx(1)


def test_the_phone_is_greeted_until_it_sends() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(2)
        options = SourceOptions(port=0, phone=f"127.0.0.1:{phone.getsockname()[1]}")
        with open_source("ifacialmocap", options) as source:
            hello, client = phone.recvfrom(200)
            assert hello == b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719|sendDataVersion=v2"
            phone.sendto(SENT["ifacialmocap"](1.0), client)
            assert float(first(source.poses()).pose[WINK]) == pytest.approx(1)


def test_it_listens_on_loopback_alone() -> None:
    with open_source("vmc", SourceOptions(port=0)) as source:
        assert source._handle.getsockname()[0] == "127.0.0.1"  # type: ignore[attr-defined]


def test_names_that_are_not_known_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        open_source("vmc", SourceOptions(port=0)) as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        for _ in range(5):
            sender.sendto(packets.vmc({"foo": 1.0}), ("127.0.0.1", source.port))  # type: ignore[attr-defined]
        assert list(itertools.islice(source.poses(), 2)) == [None, None]
    assert capsys.readouterr().err.count("none of 1 blendshapes is known") == 1


def test_calibration_takes_the_first_seconds() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with open_source("ifacialmocap", SourceOptions(port=0, calibrate_s=0.2)) as source, udp as sender:
        poses = source.poses()
        to = ("127.0.0.1", source.port)  # type: ignore[attr-defined]
        for _ in range(3):
            sender.sendto(packets.ifacialmocap({"jawOpen": 0.0}, (6, 4, 3)), to)
            assert float(first(poses).pose[39:].abs().max()) < 1e-5
        time.sleep(0.25)
        sender.sendto(packets.ifacialmocap({"jawOpen": 0.0}, (6 - 7.5, 4, 3)), to)
        assert float(first(poses).pose[39]) == pytest.approx(0.5, abs=1e-4)


def test_a_track_in_a_loop_keeps_its_pace(tmp_path: Path) -> None:
    poses = sample_poses(6, seed=3)
    np.save(tmp_path / "t.npy", poses.numpy())
    options = SourceOptions(path=str(tmp_path / "t.npy"), poses_fps=20.0)
    with open_source("file", options) as source:
        began = time.monotonic()
        shown = [pose for pose in source.poses() if pose is not None]
        assert 0.2 < time.monotonic() - began < 0.6
        assert torch.allclose(shown[0].pose, poses[0])
        assert torch.allclose(shown[-1].pose, poses[5], atol=1e-5)
    with open_source("file", SourceOptions(path=str(tmp_path / "t.npy"), loop=True)) as source:
        began = time.monotonic()
        again = [pose.pose for pose in itertools.islice(source.poses(), 40) if pose is not None]
        assert 0.5 < time.monotonic() - began < 1.2
        assert sum(torch.allclose(pose, poses[0]) for pose in again) == 3


def test_sound_over_a_track(tmp_path: Path) -> None:
    still = POSE_PARAMETERS.rest(3)
    still[:, WINK], still[:, AAA] = 0.7, 0.9
    np.save(tmp_path / "t.npy", still.numpy())
    write_sound(tmp_path / "a.wav", vowel((290, 2250, 3000), 120.0))
    track = open_source("file", SourceOptions(path=str(tmp_path / "t.npy"), loop=True))
    sound = open_source("audio", SourceOptions(path=str(tmp_path / "a.wav")))
    assert sound.drives == {f"mouth_{v}" for v in ("aaa", "iii", "uuu", "eee", "ooo")}
    with Merged([track, sound]) as source:
        assert source.name == "file + audio"
        iii = POSE_PARAMETERS.index("mouth_iii")
        ended = time.monotonic() + 2.5
        both = [
            pose for pose in itertools.takewhile(lambda _: time.monotonic() < ended, source.poses()) if pose is not None
        ]
    said = torch.stack([pose.pose for pose in both])
    assert said[3:, WINK].min() > 0.69  # the track's
    during = torch.tensor([pose.time < both[0].time + 0.6 for pose in both])  # later the sound has ended, and is let go
    loud = said[during & (said[:, iii] > 0.5)]
    assert len(loud) > 5
    assert loud[:, AAA].max() < 0.3  # the sound's, not the track's
    assert said[-1, AAA] > 0.89  # the track's again once the sound has ended
    assert not any(thread.name in ("file", "audio") and thread.is_alive() for thread in threading.enumerate())


def test_a_video_is_followed_and_repeated(tracker_model: Path, tmp_path: Path) -> None:
    images = [face(6 * np.sin(i / 2)) for i in range(8)]
    path = write_video(tmp_path / "face.mp4", images, 10)
    with open_source("file", SourceOptions(path=str(path), loop=True)) as source:
        began = time.monotonic()
        poses = [pose for pose in itertools.islice(source.poses(), 20) if pose is not None]
        assert time.monotonic() - began > 1.0  # more than one round
    assert len(poses) > 8


def test_a_camera_that_goes_away_comes_back(tracker_model: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "camera.mp4", [face(5)] * 4, 30)  # a camera that ends at once
    with Webcam(SourceOptions(camera=str(path))) as source:
        poses = source.poses()
        turned = first(poses, 10)
        assert float(turned.pose[POSE_PARAMETERS.index("neck_z")]) < 0  # as in a mirror
        path.rename(tmp_path / "gone")
        time.sleep(1.2)
        assert None in list(itertools.islice(poses, 4))
        (tmp_path / "gone").rename(path)
        since = time.monotonic()
        while first(poses, 10).time < since:
            pass


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["telepathy"], SourceOptions(), "source=telepathy; expected one or more of webcam"),
        ([], SourceOptions(), "expected one or more"),
        (["file"], SourceOptions(), "source=file without a file; expected path=FILE"),
        (["file"], SourceOptions(path="none.npy"), "none.npy does not exist"),
        (["vmc", "openseeface"], SourceOptions(port=1), "with one port"),
        (["vmc"], SourceOptions(host="203.0.113.9", port=0), "cannot listen at 203.0.113.9"),
        (["ifacialmocap"], SourceOptions(port=0, phone="127.0.0.1:x"), "phone=127.0.0.1:x; expected its address"),
        (
            ["ifacialmocap"],
            SourceOptions(port=0, phone="192.168.1.7"),
            "for this machine alone; expected listen=0.0.0.0",
        ),
    ],
)
def test_what_cannot_be_opened_is_reported(names: list[str], options: SourceOptions, message: str) -> None:
    with pytest.raises(UserError) as caught, open_source(names, options):
        pass
    assert message in str(caught.value)


def test_a_taken_port_is_reported() -> None:
    with open_source("vmc", SourceOptions(port=0)) as source:
        taken = SourceOptions(port=source.port)  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="is taken; expected a free one"), open_source("vmc", taken):
            pass


def test_a_camera_that_is_not_there_is_reported(tracker_model: Path) -> None:
    with pytest.raises(UserError, match="/dev/video97"), open_source("webcam", SourceOptions(camera=97)):
        pass


def test_a_stream_of_nothing_but_spoiled_packets_is_silence() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with open_source("openseeface", SourceOptions(port=0)) as source, udp as sender:
        ended = threading.Event()

        def flood() -> None:
            while not ended.wait(0.002):
                sender.sendto(b"nothing", ("127.0.0.1", source.port))  # type: ignore[attr-defined]

        flooding = threading.Thread(target=flood)
        flooding.start()
        began = time.monotonic()
        assert list(itertools.islice(source.poses(), 3)) == [None] * 3
        ended.set()
        flooding.join()
        assert 0.25 < time.monotonic() - began < 2
