"""Captures of trackers as files: JSON lines, pcap, iFacialMocap's text, Live Link's CSV; all the same motion."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from thadistill.drive import BlendshapeMapper
from thadistill.drive.names import BLENDSHAPES
from thadistill.drive.track import Track, read_track
from thadistill.errors import UserError

from . import packets

COUNT = 20
TIMES = np.arange(COUNT) / 30
SHAPES = [{name: round((3 * k + 5 * i) % 100 / 100, 2) for k, name in enumerate(BLENDSHAPES)} for i in range(COUNT)]
HEADS = [(0.5 * i, -0.3 * i, 0.2 * i) for i in range(COUNT)]


def expected() -> torch.Tensor:
    return torch.stack([BlendshapeMapper()(shapes, head) for shapes, head in zip(SHAPES, HEADS, strict=True)])


def sent(protocol: str) -> list[bytes]:
    frames = zip(SHAPES, HEADS, strict=True)
    if protocol == "vmc":
        return [packets.vmc(shapes, Rotation.from_euler("xyz", head, degrees=True)) for shapes, head in frames]
    return [packets.ifacialmocap(shapes, head) for shapes, head in frames]


def udp(packet: bytes, port: int, version: int = 4) -> bytes:
    """In UDP, IP and Ethernet."""
    datagram = struct.pack(">HHHH", 5000, port, 8 + len(packet), 0) + packet
    if version == 6:
        return (
            b"\0" * 12
            + b"\x86\xdd"
            + b"\x60\0\0\0"
            + struct.pack(">HBB", len(datagram), 17, 64)
            + b"\0" * 32
            + datagram
        )
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
    return b"\0" * 12 + b"\x08\0" + head + datagram


def pcap(content: list[bytes], order: str = "<") -> bytes:
    data = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time, frame in zip(TIMES, content, strict=True):
        data += (
            struct.pack(order + "IIII", 1700000000 + int(time), round(1e6 * (time % 1)), len(frame), len(frame)) + frame
        )
    return data


def check(track: Track) -> None:
    assert np.allclose(track.times, TIMES, atol=1e-5)
    torch.testing.assert_close(track.poses, expected(), atol=1e-4, rtol=0)  # angles have four digits


@pytest.mark.parametrize("protocol", ["vmc", "ifacialmocap"])
def test_json_lines(protocol: str, tmp_path: Path) -> None:
    lines = [
        json.dumps({"time": 7 + time, "protocol": protocol, "packet": base64.b64encode(packet).decode()})
        for time, packet in zip(TIMES, sent(protocol), strict=True)
    ]
    lines.insert(3, json.dumps({"time": 7.1, "protocol": protocol, "packet": base64.b64encode(b"odd").decode()}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    check(read_track(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("protocol", "port", "version"), [("vmc", 39539, 4), ("vmc", 39540, 6), ("ifacialmocap", 49983, 4)]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_pcap(protocol: str, port: int, version: int, order: str, tmp_path: Path) -> None:
    content = [udp(packet, port, version) for packet in sent(protocol)]
    whole = pcap(content, order)
    (tmp_path / "a.pcap").write_bytes(whole + whole[24:-10])  # and some more, cut short, of times before
    check(read_track(tmp_path / "a.pcap"))


@pytest.mark.parametrize("timed", [True, False])
def test_text_of_ifacialmocap(timed: bool, tmp_path: Path) -> None:
    lines = [
        (f"{time:.6f}\t".encode() if timed else b"") + packet
        for time, packet in zip(TIMES, sent("ifacialmocap"), strict=True)
    ]
    (tmp_path / "a.txt").write_bytes(b"\r\n".join(lines))
    track = read_track(tmp_path / "a.txt")
    if timed:
        check(track)
    else:
        assert track.seconds == pytest.approx((COUNT - 1) / 60)


def test_live_link(tmp_path: Path) -> None:
    names = [name[0].upper() + name[1:] for name in BLENDSHAPES]
    rows = [",".join(["Timecode", "BlendShapeCount", *names, "HeadYaw", "HeadPitch", "HeadRoll"])]
    for time, shapes, (x, y, z) in zip(TIMES, SHAPES, HEADS, strict=True):
        values = [*shapes.values(), *np.radians([y, x, z])]
        rows.append(
            f"10:00:{5 + int(time):02d}:{60 * (time % 1):.3f},61," + ",".join(f"{value:.7f}" for value in values)
        )
    rows.insert(4, "10:00:05:04.5,0" + "," * (len(names) + 3))  # the face was lost
    (tmp_path / "take.csv").write_text("\n".join(rows))
    check(read_track(tmp_path / "take.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"time": 1}', "line 1 does not read"),
        ("a.jsonl", b'{"time": 1, "protocol": "osc", "packet": ""}', "protocol 'osc' at 1.0"),
        ("a.jsonl", b'{"time": 1, "protocol": "vmc", "packet": "AAAA"}', "holds no face"),
        ("a.pcap", b"\n\r\r\n" + b"\0" * 40, "no pcap file"),
        ("a.pcap", pcap([udp(b"hello", 53)] * COUNT), "holds no face"),
        ("a.txt", b"hello\nworld", "holds no face"),
        ("a.txt", b"x\tjawOpen&3", "expected seconds"),
        ("a.xyz", b"", "expected poses, a capture"),
    ],
)
def test_what_is_no_capture_is_reported(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_track(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)
