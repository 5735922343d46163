"""Trackers' packets, as their senders write them and spoiled, to faces and poses."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.drive import packets
from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.names import BLENDSHAPES
from thadistill.drive.protocols import Face, PacketError, VmcReader, parse_ifacialmocap, parse_openseeface, parse_osc
from thadistill.drive.protocols.osc import pack_bundles, pack_message
from thadistill.pose import POSE_PARAMETERS

FACE = {name: (7 * i % 100) / 100 for i, name in enumerate(BLENDSHAPES)}
TURN = Rotation.from_euler("xyz", [7.5, -5, 6], degrees=True)


def pose_of(face: Face) -> dict[str, float]:
    pose = BlendshapeMapper()(face.blendshapes, face.head)
    return dict(zip(POSE_PARAMETERS, (round(float(value), 3) for value in pose), strict=True)) | dict(face.pose)


@pytest.mark.parametrize("version", [1, 2])
def test_ifacialmocap(version: int) -> None:
    face = parse_ifacialmocap(packets.ifacialmocap(FACE, (7.5, -5, 6), version))
    assert face.blendshapes == pytest.approx(FACE)
    expected = BlendshapeMapper()(FACE, TURN.as_matrix())
    torch.testing.assert_close(BlendshapeMapper()(face.blendshapes, face.head), expected, atol=1e-5, rtol=0)


def test_osc_is_that_of_its_specification() -> None:
    """The two examples that OSC 1.0 spells out byte by byte."""
    frequency = b"/oscillator/4/frequency\0,f\0\0" + bytes.fromhex("43dc0000")
    assert pack_message("/oscillator/4/frequency", 440.0) == frequency
    expected = b"/foo\0\0\0\0,iisff\0\0" + bytes.fromhex("000003e8ffffffff") + b"hello\0\0\0"
    assert pack_message("/foo", 1000, -1, "hello", 1.234, 5.678) == expected + bytes.fromhex("3f9df3b640b5b22d")


def test_osc_that_is_packed_is_read_back() -> None:
    sent = [("/a", ("ü", i, 0.5)) for i in range(90)]
    made = pack_bundles(pack_message(address, *arguments) for address, arguments in sent)
    assert len(made) == 2  # 28 bytes each, and 16 of a bundle
    assert max(map(len, made)) <= 1400
    assert [tuple(message) for packet in made for message in parse_osc(packet)] == sent


def test_osc_reads_every_type_and_bundles_in_bundles() -> None:
    data = (
        packets.osc_text("/a")
        + packets.osc_text(",ifsTFNhdb")
        + struct.pack(">if", -3, 0.5)
        + packets.osc_text("hello")
    )
    data += struct.pack(">qd", 2**40, 0.25) + struct.pack(">i", 3) + b"abc\0"
    whole = packets.bundle(packets.osc("/b", "x", 1), packets.bundle(data, packets.osc("/c")))
    first, second, third = parse_osc(whole)
    assert first == ("/b", ("x", 1))
    assert second == ("/a", (-3, 0.5, "hello", True, False, None, 2**40, 0.25, b"abc"))
    assert third == ("/c", ())


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (b"", "cut short"),
        (b"abc", "cut short"),
        (b"abc\0", "begins with /"),
        (packets.osc("/a", "x")[:-4], "cut short"),
        (packets.osc_text("/a") + packets.osc_text(",b") + b"\x7f\xff\xff\xff", "blob of 2147483647"),
        (packets.osc_text("/a") + packets.osc_text(",q"), "type 'q'"),
        (packets.bundle(packets.bundle(packets.bundle(packets.bundle(packets.bundle())))), "5 deep"),
        (packets.bundle(packets.osc("/a"))[:-4], "element of"),
        (packets.bundle(*[packets.osc("/a")] * 5000), "more than 4096"),
        (b"/" + b"a" * 70000, "70001 bytes"),
    ],
)
def test_osc_refuses_in_one_line(packet: bytes, message: str) -> None:
    with pytest.raises(PacketError) as caught:
        parse_osc(packet)
    assert message in str(caught.value)


def test_vmc_counts_from_apply_on() -> None:
    reader = VmcReader()
    assert reader.take(packets.osc("/VMC/Ext/Blend/Val", "JawOpen", 0.7)) is None
    assert reader.take(packets.osc("/VMC/Ext/Blend/Val", "eyeBlinkLeft", 0.8)) is None
    face = reader.take(packets.osc("/VMC/Ext/Blend/Apply"))
    assert face is not None
    assert face.blendshapes == pytest.approx({"jawOpen": 0.7, "eyeBlinkLeft": 0.8})
    face = reader.take(packets.vmc(FACE, TURN))
    assert face is not None
    torch.testing.assert_close(
        BlendshapeMapper()(face.blendshapes, face.head), BlendshapeMapper()(FACE, TURN.as_matrix()), atol=1e-5, rtol=0
    )


def test_vmc_turns_a_unity_head() -> None:
    reader = VmcReader()
    half = np.radians(10) / 2  # about Unity's y: to the avatar's right
    packet = packets.osc("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, 0.0, float(np.sin(half)), 0.0, float(np.cos(half)))
    face = reader.take(packet)
    assert face is not None
    assert pose_of(face)["head_y"] == 1  # as a right-handed -10 degrees about y does


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"A": 0.6}, {"mouth_aaa": 0.6}),
        ({"ee": 0.5}, {"mouth_eee": 0.5}),
        ({"Blink_L": 1.0}, {"eye_wink_left": 1.0}),
        ({"blinkRight": 1.0}, {"eye_wink_right": 1.0}),
        ({"LookDown": 0.5, "LookLeft": 0.5}, {"iris_rotation_x": -0.5, "iris_rotation_y": -0.5}),
        ({"Blink": 1.0, "Blink_L": 1.0}, {"eye_wink_left": 1.0, "eye_wink_right": 1.0}),
    ],
)
def test_vmc_knows_vrm_expressions(names: dict[str, float], expected: dict[str, float]) -> None:
    face = VmcReader().take(packets.vmc(names))
    assert face is not None
    assert {name: value for name, value in pose_of(face).items() if value} == pytest.approx(expected)


def test_vmc_says_when_no_name_is_known() -> None:
    with pytest.raises(PacketError, match="none of 2 blendshapes is known, 'foo' the first"):
        VmcReader().take(packets.vmc({"foo": 1.0, "bar": 1.0}))


def test_openseeface_turns_the_head() -> None:
    for angles in ([0, 0, 0], [10, 0, 0], [0, 8, 0], [0, 0, -12], [5, -6, 7]):
        turn = Rotation.from_euler("xyz", angles, degrees=True)
        face = parse_openseeface(packets.openseeface(head=turn))
        assert np.allclose(BlendshapeMapper.angles(face.head), angles, atol=1e-4)


def test_openseeface_moves_the_face() -> None:
    rest = pose_of(parse_openseeface(packets.openseeface()))
    assert not any(rest.values())
    features = {3: 1.0, 6: -1.0, 8: -0.8, 10: -0.8}  # brows, mouth's corners up
    pose = pose_of(parse_openseeface(packets.openseeface(features, eyes=(0.1, 1.0), gaze=(0.25, 0.0))))
    assert pose["eyebrow_raised_left"] == 1
    assert pose["eyebrow_raised_right"] == 0
    assert pose["mouth_raised_corner_left"] == 0.8
    assert pose["eye_happy_wink_right"] == 1
    assert pose["eye_happy_wink_left"] == 0
    assert pose["iris_rotation_y"] == pytest.approx(-0.5 / 0.75, abs=1e-3)  # to the person's left
    up = pose_of(parse_openseeface(packets.openseeface(gaze=(0.0, 0.2))))
    assert up["iris_rotation_x"] == pytest.approx(0.4 / 0.75, abs=1e-3)
    for features, vowel in (({12: 1.0}, "aaa"), ({12: 0.5, 13: -1.0}, "uuu")):
        mouth = {
            name: value
            for name, value in pose_of(parse_openseeface(packets.openseeface(features))).items()
            if "mouth" in name
        }
        assert max(mouth, key=lambda name: mouth[name]) == f"mouth_{vowel}"


def test_openseeface_takes_the_first_of_several_faces() -> None:
    both = packets.openseeface({12: 1.0}, face=4) + packets.openseeface(face=2)
    assert parse_openseeface(both).blendshapes["jawOpen"] == 0


@pytest.mark.parametrize(
    ("parse", "packet", "message"),
    [
        (parse_openseeface, packets.openseeface()[:-1], "a packet of 1784 bytes"),
        (parse_openseeface, packets.openseeface({12: float("nan")}), "not finite"),
        (parse_ifacialmocap, b"\xff\xfe", "no text"),
        (parse_ifacialmocap, b"hello|world&3", "without a blendshape"),
        (parse_ifacialmocap, b"jawOpen&3|=head#1,2", "=head#1,2; expected iFacialMocap's six numbers"),
        (parse_ifacialmocap, b"jawOpen&3|=head#nan,2,3,4,5,6", "six numbers"),
        (parse_ifacialmocap, b"a|" * 9000, "18000 bytes"),
    ],
)
def test_packets_are_refused_in_one_line(parse: Callable[[bytes], Face], packet: bytes, message: str) -> None:
    with pytest.raises(PacketError) as caught:
        parse(packet)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spoiled_packets_raise_nothing_else_and_cost_little() -> None:
    started = time.process_time()
    outcomes = packets.give(2000)
    assert time.process_time() - started < 60
    assert outcomes.pop("of several lines") == 0
    assert sum(outcomes.values()) == 8000
    for name in ("ifacialmocap", "openseeface", "osc", "vmc"):  # both ends of every parser were seen
        assert outcomes[f"{name} refused"] > 100
        assert outcomes[f"{name} taken"] > 50
