"""Sinks: what a file, a pipe, a camera and an avatar program get of a live character."""

from __future__ import annotations

import socket
import struct
import sys
import types
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from thadistill.data.poses import sample_poses
from thadistill.drive import BlendshapeMapper, open_sink
from thadistill.drive.protocols import VmcReader
from thadistill.drive.sinks import Shown, SinkOptions
from thadistill.drive.sinks.vmc import blendshapes_of, packets
from thadistill.drive.sources.base import FaceMapping, SourceOptions
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from .live_sources import pose_with


def shown(seconds: float, level: int = 128) -> Shown:
    frame = np.full((512, 512, 4), level, np.uint8)
    frame[..., 3] = 255
    return Shown(pose_with(), frame, 100.0 + seconds, None)


def test_a_file_keeps_the_moments(tmp_path: Path) -> None:
    """Frames that come late, early and twice: what is played shows each from the moment it was made."""
    moments = [0.0, 0.034, 0.06, 0.4, 0.401, 1.0]
    with open_sink(str(tmp_path / "a.mp4"), SinkOptions(fps=30.0)) as sink:
        for i, moment in enumerate(moments):
            sink.take(shown(moment, 40 * i))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        found = [(frame.time, int(frame.to_ndarray(format="rgb24").mean())) for frame in container.decode(stream)]
    assert [round(time * 30) for time, _ in found] == [0, 1, 2, 12, 30]
    for (_, level), expected in zip(found, [0, 40, 80, 120, 200], strict=True):
        assert abs(level - expected) <= 3


def test_pictures_repeat_what_was_missed(tmp_path: Path) -> None:
    with open_sink(str(tmp_path / "f-%02d.png"), SinkOptions(fps=10.0)) as sink:
        for moment, level in ((0.0, 0), (0.3, 50), (0.4, 100)):
            sink.take(shown(moment, level))
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"f-{i:02d}.png" for i in range(1, 6)]
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes() != files[3].read_bytes()


def test_a_file_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    broken = shown(1.0)._replace(frame=np.zeros((2, 2), np.uint8))
    path = tmp_path / "a.mp4"

    def write() -> None:
        with open_sink(str(path)) as sink:
            sink.take(shown(0.0))
            sink.take(broken)

    with pytest.raises(Exception, match=r"frame|array|dimension"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sink", "options", "message"),
    [
        ("tv", {}, "sink=tv; expected one of browser, virtualcam, ndi, vmc, stdout, or a file"),
        ("a.avi", {}, "expected an ending of .mp4"),
        ("a.png", {}, "expected one pattern"),
        ("vmc", {"to": "here"}, "to=here; expected an address and a port"),
        ("vmc", {"to": "127.0.0.1:99999"}, "expected an address and a port"),
        ("browser", {}, "no student"),
        ("a.mp4", {"background": "nowhere.png"}, "background=nowhere.png; expected"),
    ],
)
def test_mistakes(
    sink: str, options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught, open_sink(sink, SinkOptions(**options)):  # type: ignore[arg-type]
        pass
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class FakeCamera:
    """pyvirtualcam's camera, as far as it is used, of a device that can be pulled out."""

    there = True

    def __init__(self, width: int, height: int, fps: float) -> None:
        if not FakeCamera.there:
            raise RuntimeError("'v4l2loopback' backend: No v4l2 loopback device found. Did you run 'modprobe'?")
        self.device, self.sent = "/dev/video9", []
        self.size = (height, width)
        FakeCamera.last = self

    def send(self, frame: np.ndarray) -> None:
        if not FakeCamera.there:
            raise OSError("No such device")
        assert frame.shape == (*self.size, 3)
        assert frame.dtype == np.uint8
        self.sent.append(frame)

    def close(self) -> None:
        pass


def test_virtual_cameras_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=FakeCamera))
    monkeypatch.setattr("thadistill.drive.sinks.virtual_camera._RETRY_S", 0.0)
    transparent = Shown(pose_with(), np.zeros((512, 512, 4), np.uint8), 0.0, None)
    with open_sink("virtualcam", SinkOptions(background="00ff00")) as sink:
        sink.take(transparent)
        assert (FakeCamera.last.sent[0] == [0, 255, 0]).all()
        FakeCamera.there = False
        for _ in range(3):
            sink.take(transparent)
        assert sink.status() == "gone, tried again"
        FakeCamera.there = True
        sink.take(transparent)
        assert len(FakeCamera.last.sent) == 1
        assert sink.status() == "/dev/video9"
    FakeCamera.there = False
    try:
        with pytest.raises(UserError, match=r"no virtual camera can be opened \('v4l2loopback'") as caught:
            open_sink("virtualcam").__enter__()
        assert "\n" not in str(caught.value)
    finally:
        FakeCamera.there = True
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(UserError, match="pip install"):
        open_sink("virtualcam").__enter__()


def test_ndi_keeps_transparency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against stand-ins: cyndilib brings a runtime that is not free software, so that the tests do not install it."""
    sent: list[np.ndarray] = []
    announced: dict[str, object] = {}

    class Frame:
        def set_resolution(self, width: int, height: int) -> None:
            announced["size"] = width, height

        def set_frame_rate(self, rate: Fraction) -> None:
            announced["rate"] = rate

        def set_fourcc(self, fourcc: str) -> None:
            announced["format"] = fourcc

    class Sender:
        def __init__(self, name: str, clock_video: bool, clock_audio: bool) -> None:
            announced["name"] = name

        def set_video_frame(self, frame: Frame) -> None:
            announced["frame"] = frame

        def open(self) -> None:
            announced["open"] = True

        def close(self) -> None:
            announced["open"] = False

        def write_video(self, data: np.ndarray) -> None:
            sent.append(data.copy())

        def get_num_connections(self, timeout_ms: int) -> int:
            return 2

    for name, content in (
        ("sender", {"Sender": Sender}),
        ("video_frame", {"VideoSendFrame": Frame}),
        ("wrapper.ndi_structs", {"FourCC": types.SimpleNamespace(RGBA="RGBA")}),
    ):
        monkeypatch.setitem(sys.modules, f"cyndilib.{name}", types.SimpleNamespace(**content))
    given = shown(0.0)
    with open_sink("ndi", SinkOptions(fps=30.0)) as sink:
        sink.take(given)
        assert sink.status() == "2 watching"
    assert announced | {"frame": None} == {
        "size": (512, 512), "rate": 30, "format": "RGBA", "name": "thadistill", "open": False, "frame": None
    }  # fmt: skip
    assert given.frame is not None
    np.testing.assert_array_equal(sent[0], given.frame.ravel())
    monkeypatch.setitem(sys.modules, "cyndilib.sender", None)
    with pytest.raises(UserError, match=r"pip install 'thadistill\[ndi\]'"):
        open_sink("ndi").__enter__()


def read_osc(packet: bytes) -> list[tuple[str, list[object]]]:
    """Messages of a bundle, by a reader of its own."""
    assert packet[:16] == b"#bundle\0" + bytes(7) + b"\1"
    found, at = [], 16

    def text(content: bytes, start: int) -> tuple[str, int]:
        end = content.index(b"\0", start)
        return content[start:end].decode(), (end + 4) // 4 * 4

    while at < len(packet):
        (size,) = struct.unpack_from(">i", packet, at)
        content = packet[at + 4 : at + 4 + size]
        assert size % 4 == 0
        address, i = text(content, 0)
        tags, i = text(content, i)
        values: list[object] = []
        for tag in tags[1:]:
            if tag == "s":
                value, i = text(content, i)
                values.append(value)
            else:
                values.append(struct.unpack_from(">i" if tag == "i" else ">f", content, i)[0])
                i += 4
        assert i == size
        found.append((address, values))
        at += 4 + size
    return found


def test_vmc_over_a_real_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        pose = pose_with(mouth_aaa=0.75, eye_wink_left=1.0, head_y=1.0, neck_z=-0.5)
        with open_sink("vmc", SinkOptions(to=f"127.0.0.1:{receiver.getsockname()[1]}")) as sink:
            sink.take(Shown(pose, None, 0.0, None))
            received: list[tuple[str, list[object]]] = []
            while not received or received[-1][0] != "/VMC/Ext/Blend/Apply":
                packet = receiver.recv(65536)
                assert len(packet) <= 1400
                received += read_osc(packet)
    values = {str(v[0]): v[1] for address, v in received if address == "/VMC/Ext/Blend/Val"}
    assert values["A"] == 0.75
    assert values["Blink_L"] == 1.0
    assert values["Blink_R"] == 0.0
    assert values["eyeBlinkLeft"] == pytest.approx(0.8)
    bones = {str(v[0]): v[4:] for address, v in received if address == "/VMC/Ext/Bone/Pos"}
    assert np.linalg.norm(bones["Head"]) == pytest.approx(1.0, abs=1e-5)
    x, y, _, w = map(float, bones["Head"])  # type: ignore[arg-type]
    assert (x, np.degrees(2 * np.arctan2(y, w))) == (pytest.approx(0), pytest.approx(10, abs=1e-3))


@pytest.mark.parametrize(("parameter", "value"), [("head_x", 0.5), ("head_y", -0.5), ("neck_z", 0.5)])
def test_vmc_turns_a_head_as_vmc_readers_take_it(parameter: str, value: float) -> None:
    """What is sent, read as from another program: by the same rule, which packets.py has from the protocol's own senders."""
    reader, mapping = VmcReader(), FaceMapping("vmc", SourceOptions())
    faces = [face for packet in packets(pose_with(**{parameter: value}), 0.0) if (face := reader.take(packet))]
    found = mapping.pose(faces[-1])
    assert found is not None
    assert float(found[POSE_PARAMETERS.index(parameter)]) * value > 0


def test_nobody_who_receives_vmc_is_no_error() -> None:
    with open_sink("vmc", SinkOptions(to="127.0.0.1:9")) as sink:
        for _ in range(5):
            sink.take(Shown(pose_with(), None, 0.0, None))
    with pytest.raises(UserError, match="has no address"), open_sink("vmc", SinkOptions(to="nowhere.invalid:1")):
        pass


def test_blendshapes_lead_back_to_the_pose() -> None:
    """A tracker's pose, as VMC carries it, and mapped again: eyes, brows, lids and irises are the same, the mouth nearly."""
    mapper, rng = BlendshapeMapper(), np.random.default_rng(1)
    from thadistill.drive import BLENDSHAPES

    for _ in range(20):
        calm = {name: float(rng.uniform(0, 0.4)) for name in BLENDSHAPES if not name.startswith("mouthS")}
        pose = mapper(calm)
        again = mapper(blendshapes_of(pose))
        same = [i for i, name in enumerate(POSE_PARAMETERS) if not name.startswith("mouth")]
        assert torch.allclose(again[same], pose[same], atol=1e-5)
        mouth = slice(POSE_PARAMETERS.index("mouth_aaa"), POSE_PARAMETERS.index("mouth_ooo") + 1)
        assert (again[mouth] - pose[mouth]).abs().max() < 0.35  # vowels share their shapes


def test_bundles_stay_below_a_networks_packet() -> None:
    for pose in sample_poses(5, seed=2):
        assert all(len(packet) <= 1400 for packet in packets(pose, 1e5))
