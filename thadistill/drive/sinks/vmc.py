"""VMC: poses of a live character to programs that show 3D avatars, by the Virtual Motion Capture protocol over UDP."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from thadistill.drive.handle import HandleContext
from thadistill.drive.protocols.osc import pack_bundles, pack_message
from thadistill.drive.protocols.vmc import PORT
from thadistill.drive.sinks.base import Shown
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

# VRM 0 expressions, which every receiver knows
_EXPRESSIONS = {
    "A": ("mouth_aaa",),
    "I": ("mouth_iii",),
    "U": ("mouth_uuu",),
    "E": ("mouth_eee",),
    "O": ("mouth_ooo",),
    "Blink_L": ("eye_wink_left", "eye_happy_wink_left", "eye_relaxed_left"),
    "Blink_R": ("eye_wink_right", "eye_happy_wink_right", "eye_relaxed_right"),
    "Joy": ("eyebrow_happy_left", "eyebrow_happy_right"),
    "Angry": ("eyebrow_angry_left", "eyebrow_angry_right"),
    "Sorrow": ("eyebrow_troubled_left", "eyebrow_troubled_right"),
}
# What a pose value of 1 is in degrees, as the mapping from trackers has it (thadistill/drive/blendshapes.py)
_HEAD_X, _HEAD_Y, _NECK_Z, _BODY_Y, _BODY_Z = -15.0, -10.0, 15.0, -10.0, 15.0


def blendshapes_of(pose: Float[Tensor, " 45"]) -> dict[str, float]:
    """ARKit blendshapes that the tracker mapping would make this pose of, as far as a pose determines them."""
    at = dict(zip(POSE_PARAMETERS, pose.tolist(), strict=True))
    shapes: dict[str, float] = {}
    for end, side in (("Left", "left"), ("Right", "right")):
        smiling = at[f"eye_happy_wink_{side}"]
        shapes[f"eyeBlink{end}"] = 0.8 * max(at[f"eye_wink_{side}"], at[f"eye_relaxed_{side}"], smiling)
        shapes[f"eyeWide{end}"] = 0.5 * at[f"eye_surprised_{side}"]
        lid = at[f"eye_raised_lower_eyelid_{side}"]
        shapes[f"cheekSquint{end}"] = 0.1 + 0.6 * lid if lid > 0 else 0.0
        down = (at[f"eyebrow_{morph}_{side}"] for morph in ("angry", "troubled", "serious", "lowered"))
        shapes[f"browDown{end}"] = 0.4 * max(down)
        shapes[f"browOuterUp{end}"] = at[f"eyebrow_raised_{side}"]
        shapes[f"mouthSmile{end}"] = max(at[f"mouth_raised_corner_{side}"], at[f"eyebrow_happy_{side}"])
        shapes[f"mouthFrown{end}"] = 0.3 * at[f"mouth_lowered_corner_{side}"]
    sideways, up = 0.75 * at["iris_rotation_y"], 0.75 * at["iris_rotation_x"]
    for end in ("Left", "Right"):
        inwards = sideways if end == "Left" else -sideways
        shapes[f"eyeLookIn{end}"], shapes[f"eyeLookOut{end}"] = max(0.0, inwards), max(0.0, -inwards)
        shapes[f"eyeLookUp{end}"], shapes[f"eyeLookDown{end}"] = max(0.0, up), max(0.0, -up)
    a, i, u, o = (at[f"mouth_{vowel}"] for vowel in ("aaa", "iii", "uuu", "ooo"))
    opened = min(1.0, a + 0.5 * u + o)
    shapes["jawOpen"] = 0.1 + 0.3 * opened if opened > 0 else 0.0
    lips = min(1.0, a + i + 0.3 * u + 0.5 * o)
    shapes["mouthLowerDownLeft"] = shapes["mouthLowerDownRight"] = lips / 2
    shapes["mouthFunnel"] = min(1.0, 0.25 * u + 0.5 * o)
    shapes["mouthPucker"] = min(1.0, 0.75 * u + 0.4 * o)
    return shapes


def packets(pose: Float[Tensor, " 45"], seconds: float) -> list[bytes]:
    """A pose as VMC packets: expressions of VRM 0, ARKit blendshapes, and head, neck and spine.

    ``seconds`` since the performance began. Expressions are applied by the last packet.
    """
    at = dict(zip(POSE_PARAMETERS, pose.tolist(), strict=True))
    return pack_bundles(_messages(at, blendshapes_of(pose), seconds))


def _messages(at: dict[str, float], shapes: dict[str, float], seconds: float) -> Iterator[bytes]:
    yield pack_message("/VMC/Ext/OK", 1)
    yield pack_message("/VMC/Ext/T", float(seconds))
    # degrees about the axes of the tracker mapping: to the right, up, to the viewer
    head = (_HEAD_X * at["head_x"], _HEAD_Y * at["head_y"] - _BODY_Y * at["body_y"], 0.0)
    neck = (0.0, 0.0, _NECK_Z * at["neck_z"] - _BODY_Z * at["body_z"])
    spine = (0.0, _BODY_Y * at["body_y"], _BODY_Z * at["body_z"])
    for bone, angles in (("Head", head), ("Neck", neck), ("Spine", spine)):
        from scipy.spatial.transform import Rotation  # 20 MB, half a second: where it is needed

        x, y, z, w = Rotation.from_euler("xyz", angles, degrees=True).as_quat()
        # Unity's axes are left-handed, and an avatar looks along z there too: mirrored in x
        yield pack_message("/VMC/Ext/Bone/Pos", bone, 0.0, 0.0, 0.0, float(x), float(-y), float(-z), float(w))
    for name, parameters in _EXPRESSIONS.items():
        yield pack_message("/VMC/Ext/Blend/Val", name, max(at[parameter] for parameter in parameters))
    for name, value in shapes.items():
        yield pack_message("/VMC/Ext/Blend/Val", name, float(value))
    yield pack_message("/VMC/Ext/Blend/Apply")


class VmcSink(HandleContext):
    """Sends poses to a program that receives VMC, such as VSeeFace, VNyan or Warudo. Nobody there is no error.

    Args:
        host, port: where that program listens.
        fps: poses a second.

    Raises: UserError, when opened, for a host that has no address.
    """

    takes_frames = False

    def __init__(self, host: str = "127.0.0.1", port: int = PORT, fps: float = 60.0) -> None:
        self.name = f"VMC to {host}:{port}"
        self.fps = fps
        self._host, self._port = host, port
        self._handle: socket.socket | None = None
        self._to: tuple[str, int] = (host, port)
        self._began = 0.0
        self._count = 0

    def __enter__(self) -> VmcSink:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise UserError(
                f"to={self._host} has no address ({error.strerror}); expected that of the program that receives"
            ) from None
        self._handle = socket.socket(found[0], socket.SOCK_DGRAM)
        self._to = found[4]  # type: ignore[assignment]
        self._began = time.monotonic()
        return self

    def take(self, shown: Shown) -> None:
        """Sends a pose."""
        assert self._handle is not None
        for packet in packets(shown.pose, shown.time - self._began):
            with contextlib.suppress(OSError):  # nobody listens there yet, or the network is away
                self._handle.sendto(packet, self._to)
        self._count += 1

    def tell(self, source: str, state: str) -> None:
        pass

    def status(self) -> str:
        return f"{self._count} poses"
