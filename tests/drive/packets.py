"""Packets of face trackers as their senders write them, for tests; and packets spoiled in every way, by number.

``python -m tests.drive.packets 100000 [first]`` gives that many spoiled packets to the parsers (the suite gives 2,000).
"""

from __future__ import annotations

import re
import struct
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.names import BLENDSHAPES
from thadistill.drive.protocols import PacketError, VmcReader, parse_ifacialmocap, parse_openseeface, parse_osc

UNSIDED = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")


def ifacialmocap(blendshapes: Mapping[str, float], head: Sequence[float] = (0, 0, 0), version: int = 2) -> bytes:
    """What the app sends of blendshapes in [0, 1] and the head's angles in degrees."""
    mark = "&" if version == 2 else "-"
    parts = []
    for name, value in blendshapes.items():
        short = name if name in UNSIDED else re.sub("(Left|Right)$", lambda side: "_" + side[0][0], name)
        parts.append(f"{short}{mark}{round(100 * value)}")
    angles = ",".join(f"{angle:.4f}" for angle in head)
    return "|".join(
        [*parts, "hapihapi" + mark + "0", f"=head#{angles},0.1,-0.2,0.3", "rightEye#1,2,3", "leftEye#1,2,3", ""]
    ).encode()


def osc_text(text: str) -> bytes:
    """An OSC string."""
    data = text.encode() + b"\0"
    return data + b"\0" * (-len(data) % 4)


def osc(address: str, *arguments: str | int | float) -> bytes:
    """An OSC message of strings, integers and floats."""
    types, data = ",", b""
    for argument in arguments:
        if isinstance(argument, str):
            types, data = types + "s", data + osc_text(argument)
        elif isinstance(argument, int):
            types, data = types + "i", data + struct.pack(">i", argument)
        else:
            types, data = types + "f", data + struct.pack(">f", argument)
    return osc_text(address) + osc_text(types) + data


def bundle(*elements: bytes) -> bytes:
    """An OSC bundle of messages or bundles, for at once."""
    return b"#bundle\0" + struct.pack(">Q", 1) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


def vmc(blendshapes: Mapping[str, float], head: Rotation | None = None, apply: bool = True) -> bytes:
    """A frame of a VMC sender; the head's rotation about right-handed axes (z to the viewer)."""
    messages = [osc("/VMC/Ext/OK", 1), osc("/VMC/Ext/T", 1.25)]
    if head is not None:
        x, y, z, w = head.as_quat()
        messages.append(osc("/VMC/Ext/Bone/Pos", "Hips", 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        messages.append(osc("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.1, 0.0, float(x), float(-y), float(-z), float(w)))
    messages += [osc("/VMC/Ext/Blend/Val", name, float(value)) for name, value in blendshapes.items()]
    return bundle(*messages, *([osc("/VMC/Ext/Blend/Apply")] if apply else []))


def openseeface(
    features: Mapping[int, float] | None = None,
    head: Rotation | None = None,
    eyes: tuple[float, float] = (1.0, 1.0),
    gaze: tuple[float, float] = (0.0, 0.0),
    face: int = 0,
) -> bytes:
    """One face as facetracker.py packs it, field by field.

    ``head`` turns about right, up, to the viewer; ``eyes`` are how far the right and left one are open; ``gaze`` is the sine
    to the person's left, and upwards.
    """
    turn = head if head is not None else Rotation.identity()
    axes = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]])  # right, up, viewer in the camera's down, right, away
    matrix = axes @ turn.as_matrix() @ axes.T @ np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    x, y, z, w = Rotation.from_matrix(matrix).inv().as_quat()
    points = np.zeros((70, 3))  # x to the person's right, y up, z to the camera, as the tracker's model
    points[68], points[69] = (0.25, 0.2, -0.2), (-0.25, 0.2, -0.2)
    to_left, up = gaze
    points[66:68] = points[68:70] + 0.1 * np.array([-to_left, up, np.sqrt(1 - to_left**2 - up**2)])
    data = struct.pack("<di", 1700000000.5, face) + struct.pack("<2f", 640, 360) + struct.pack("<2f", *eyes)
    data += struct.pack("<Bf", 1, 0.02) + struct.pack("<4f", x, y, z, w) + struct.pack("<3f", 180, 0, 90)
    data += struct.pack("<3f", 0, 0, 5) + struct.pack("<68f", *[0.9] * 68) + struct.pack("<136f", *[100.0] * 136)
    for px, py, pz in points:
        data += struct.pack("<3f", px, -py, -pz)
    return data + struct.pack("<14f", *[(features or {}).get(i, 0.0) for i in range(14)])


def spoiled(number: int) -> bytes:
    """A packet of one of the protocols with something wrong: cut, bits turned, lengths, types, NaN, nesting, noise."""
    generator = np.random.default_rng(number)
    face = dict(zip(BLENDSHAPES, map(float, generator.uniform(0, 1, 52)), strict=True))
    turned = Rotation.from_euler("xyz", generator.normal(0, 10, 3), degrees=True)
    good = [
        ifacialmocap(face, list(generator.normal(0, 10, 3)), int(generator.integers(1, 3))),
        vmc(face, turned),
        openseeface({i: float(generator.uniform(-1, 1)) for i in range(14)}, turned),
        osc("/VMC/Ext/Blend/Val", "jawOpen", 0.5),
    ][number % 4]
    data = bytearray(good)
    kind = int(generator.integers(10))
    if kind == 0:  # cut
        return bytes(data[: generator.integers(len(data))])
    if kind == 1:  # bits
        for place in generator.integers(len(data), size=generator.integers(1, 40)):
            data[place] ^= 1 << int(generator.integers(8))
    elif kind == 2:  # lengths, and values that are not finite
        huge = [
            b"\x7f\xff\xff\xff",
            b"\xff\xff\xff\xff",
            b"\x7f\xc0\0\0",
            b"\0\0\xc0\x7f",
            b"\0\0\x80\xff",
            b"\0\0\0\0",
        ]
        for _ in range(generator.integers(1, 6)):
            place = 4 * int(generator.integers(len(data) // 4))
            data[place : place + 4] = huge[generator.integers(len(huge))]
    elif kind == 3:  # nesting
        nested = bytes(data[:64]) if number % 4 == 0 else good
        for _ in range(generator.integers(1, 200)):
            nested = bundle(nested)
        return nested
    elif kind == 4:  # types and addresses
        swaps = [
            (b",sf", b",fs"),
            (b",sf", b",sb"),
            (b",sf", b",s["),
            (b"/VMC", b"\xff\xfeMC"),
            (b"&", b"|"),
            (b"#", b"&"),
        ]
        old, new = swaps[generator.integers(len(swaps))]
        return bytes(data).replace(old, new)
    elif kind == 5:  # twice, or with a tail
        return bytes(data) * int(generator.integers(2, 60)) + bytes(generator.bytes(int(generator.integers(9))))
    elif kind == 6:
        return bytes(generator.bytes(int(generator.integers(2000))))
    elif kind == 7:  # numbers as texts
        odd = [b"nan", b"inf", b"-", b"1e999", b"9" * 400, "٣".encode(), b"0x10", b"--3", b""]
        return bytes(data).replace(b"1", odd[generator.integers(len(odd))])
    elif kind == 8:  # blobs
        size = int(generator.integers(-5, 2**31 - 1))
        return osc_text("/VMC/Ext/Blend/Val") + osc_text(",b") + struct.pack(">i", size) + b"abc"
    else:
        return b"|" * int(generator.integers(70000)) if number % 2 else b",f" * int(generator.integers(40000))
    return bytes(data)


def give(count: int, first: int = 0) -> Counter[str]:
    """How many of so many spoiled packets each parser took or refused; anything but PacketError goes through."""
    outcomes: Counter[str] = Counter()
    reader, mapper = VmcReader(), BlendshapeMapper()
    for number in range(first, first + count):
        packet = spoiled(number)
        for name, parse in (
            ("ifacialmocap", parse_ifacialmocap),
            ("openseeface", parse_openseeface),
            ("osc", parse_osc),
            ("vmc", reader.take),
        ):
            try:
                face = parse(packet)  # type: ignore[operator]
            except PacketError as error:
                outcomes["of several lines"] += "\n" in str(error) or len(str(error)) > 300
                outcomes[f"{name} refused"] += 1
                continue
            outcomes[f"{name} taken"] += 1
            if name != "osc" and face is not None:
                pose = mapper(face.blendshapes, face.head)
                assert np.isfinite(pose.numpy()).all()
    return outcomes


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    start = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(dict(give(count, start)))
