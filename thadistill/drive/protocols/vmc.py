"""VMC: the Virtual Motion Capture protocol (OSC over UDP): blendshapes, VRM expressions and the head's bones, to faces.

Values come one by one and count from the next ``/VMC/Ext/Blend/Apply``. Names may be ARKit's ("perfect sync") or the
expressions of VRM 0 and 1 (``Blink_L``, ``blinkLeft``, ``A``, ``aa``, ``Joy``, ``happy``), which become pose values as
EXPRESSIONS says. Bones are in Unity's coordinates: left-handed, y up, z forward.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from thadistill.drive.names import arkit_name
from thadistill.drive.protocols.face import Face, PacketError, finite
from thadistill.drive.protocols.osc import Message, parse_osc
from thadistill.pose import POSE_PARAMETERS

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

PORT: Final = 39539

_BLEND, _APPLY, _BONE = "/VMC/Ext/Blend/Val", "/VMC/Ext/Blend/Apply", "/VMC/Ext/Bone/Pos"
_BONES = ("Neck", "Head")  # from the trunk up; each turns within the one before
_MOST = 1024  # values kept


def _both(*morphs: str) -> dict[str, float]:
    return {f"{morph}_{side}": 1.0 for morph in morphs for side in ("left", "right")}


# What each VRM expression at 1 is as a pose; the left eye is the character's, as in the pose parameters
EXPRESSIONS: Final[dict[str, dict[str, float]]] = {
    "a": {"mouth_aaa": 1.0},
    "i": {"mouth_iii": 1.0},
    "u": {"mouth_uuu": 1.0},
    "e": {"mouth_eee": 1.0},
    "o": {"mouth_ooo": 1.0},
    "blink": _both("eye_wink"),
    "blink_l": {"eye_wink_left": 1.0},
    "blink_r": {"eye_wink_right": 1.0},
    "joy": _both("eyebrow_happy", "eye_happy_wink", "mouth_raised_corner"),
    "angry": _both("eyebrow_angry", "mouth_lowered_corner"),
    "sorrow": _both("eyebrow_troubled", "mouth_lowered_corner"),
    "fun": _both("eyebrow_happy", "eye_relaxed", "mouth_raised_corner"),
    "surprised": _both("eyebrow_raised", "eye_surprised"),
    "lookup": {"iris_rotation_x": 1.0},
    "lookdown": {"iris_rotation_x": -1.0},
    "lookleft": {"iris_rotation_y": -1.0},
    "lookright": {"iris_rotation_y": 1.0},
}
_VRM1 = {"aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkleft": "blink_l", "blinkright": "blink_r"}
_VRM1 |= {"happy": "joy", "sad": "sorrow", "relaxed": "fun"}
_RANGES = dict(zip(POSE_PARAMETERS, zip(POSE_PARAMETERS.low, POSE_PARAMETERS.high, strict=True), strict=True))


class VmcReader:
    """Collects what a VMC sender tells, packet by packet."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}  # by the names as they came
        self._bones: dict[str, Rotation] = {}
        self._blends = False  # whether the sender sends Apply

    def take(self, packet: bytes) -> Face | None:
        """The face as of this packet, None when the packet completes none.

        A sender of bones alone completes one with each packet that has a head.

        Raises: PacketError when the packet is not OSC, or a VMC message is not as the protocol says; what it held before
            counts.
        """
        applied = turned = False
        for message in parse_osc(packet):
            if message.address == _BLEND:
                self._blend(message)
            elif message.address == _APPLY:
                applied = self._blends = True
            elif message.address == _BONE:
                turned = self._bone(message) or turned
        complete = applied or (turned and not self._blends)
        return self._face() if complete else None

    def _blend(self, message: Message) -> None:
        if len(message.arguments) != 2:
            raise PacketError(f"{_BLEND} with {len(message.arguments)} arguments; expected a name and a value")
        name, value = message.arguments
        if not isinstance(name, str) or not isinstance(value, int | float) or isinstance(value, bool):
            raise PacketError(f"{_BLEND} {str(name)[:40]} {str(value)[:40]}; expected a name and a number")
        if name in self._values or len(self._values) < _MOST:
            self._values[name] = min(1.0, max(0.0, finite(float(value), f"blendshape {name[:40]}")))

    def _bone(self, message: Message) -> bool:
        name, *numbers = message.arguments or (None,)
        if name not in _BONES:
            return False
        if len(numbers) != 7 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            raise PacketError(f"{_BONE} {name} with {numbers!r:.60}; expected a position and a quaternion")
        x, y, z, w = (finite(float(n), f"the rotation of bone {name}") for n in numbers[3:])  # type: ignore[arg-type]
        length = math.sqrt(x * x + y * y + z * z + w * w)
        if not 0.1 < length < 10:
            raise PacketError(f"{_BONE} {name} has a quaternion of length {length:g}; expected 1")
        from scipy.spatial.transform import Rotation  # 20 MB, half a second: where it is needed

        self._bones[str(name)] = Rotation.from_quat([x, -y, -z, w])  # to right-handed, z to the viewer
        return True

    def _face(self) -> Face:
        shapes: dict[str, float] = {}
        pose: dict[str, float] = {}
        for name, value in self._values.items():
            if known := arkit_name(name):
                shapes[known] = value
        if not shapes:  # avatars of perfect sync keep the expressions at 0, or both would count
            for name, value in self._values.items():
                for parameter, strength in EXPRESSIONS.get(_VRM1.get(name.lower(), name.lower()), {}).items():
                    pose[parameter] = pose.get(parameter, 0.0) + strength * value
        if self._values and not shapes and not pose:
            first = next(iter(self._values))
            raise PacketError(
                f"none of {len(self._values)} blendshapes is known, {first[:40]!r} the first; expected names of ARKit or VRM"
            )
        pose = {name: float(np.clip(value, *_RANGES[name])) for name, value in pose.items()}
        head = None
        for bone in _BONES:
            if bone in self._bones:
                head = self._bones[bone] if head is None else head * self._bones[bone]
        return Face(shapes, None if head is None else head.as_matrix(), pose)
