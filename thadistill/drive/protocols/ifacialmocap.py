"""iFacialMocap: text packets of the iOS app (and of programs that speak like it), versions 1 and 2.

A packet is a list of parts between ``|``: ``jawOpen&12`` (version 2) or ``jawOpen-12`` (version 1), 0 to 100, sides as
``_L`` and ``_R``; then ``=head#rx,ry,rz,x,y,z`` and ``leftEye#..``, ``rightEye#..``, in degrees.
"""

from __future__ import annotations

import re
from typing import Final

from thadistill.drive.names import arkit_name
from thadistill.drive.protocols.face import Face, PacketError, finite

PORT: Final = 49983
# what the phone is sent to begin
HELLO: Final = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719|sendDataVersion=v2"

_LONGEST = 16384  # bytes; packets have 1,200
_MOST_PARTS = 512
_VALUE = re.compile(r"([A-Za-z]\w{0,63})[&-](-?\d{1,9}(?:\.\d{0,9})?)", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{0,20})?(?:[eE]-?\d{1,3})?", re.ASCII)


def parse_ifacialmocap(packet: bytes) -> Face:
    """The face in a packet.

    Raises: PacketError when it is too long, is no text, or has no blendshape that reads.
    """
    if len(packet) > _LONGEST:
        raise PacketError(f"a packet of {len(packet)} bytes; expected iFacialMocap's, of {_LONGEST} at most")
    try:
        parts = packet.decode().split("|")
    except UnicodeDecodeError:
        raise PacketError("a packet that is no text; expected iFacialMocap's, such as jawOpen&12|..") from None
    if len(parts) > _MOST_PARTS:
        raise PacketError(f"a packet of {len(parts)} parts; expected iFacialMocap's, of {_MOST_PARTS} at most")
    blendshapes: dict[str, float] = {}
    head = None
    for part in parts:
        name, bone, angles = part.strip().partition("#")
        if bone and name.lstrip("=") == "head":
            head = _angles(angles)
        elif not bone and (value := _VALUE.fullmatch(name)) and (known := arkit_name(value[1])):
            blendshapes[known] = min(1.0, max(0.0, float(value[2]) / 100))
    if not blendshapes:
        raise PacketError("a packet without a blendshape; expected iFacialMocap's, such as jawOpen&12|eyeBlink_L&40|..")
    return Face(blendshapes, head)


def _angles(text: str) -> tuple[float, float, float]:
    numbers = text.split(",", 8)
    if len(numbers) not in (3, 6) or not all(_NUMBER.fullmatch(number.strip()) for number in numbers):
        raise PacketError(f"=head#{text[:40]}; expected iFacialMocap's six numbers, rx,ry,rz,x,y,z")
    x, y, z = (finite(float(number), "an angle of =head#") for number in numbers[:3])
    return x, y, z
