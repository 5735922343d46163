"""OpenSeeFace: binary packets of the open tracker for ordinary webcams; a face is 1,785 bytes.

Layout as its ``facetracker.py`` writes it, little-endian: time f64, face id i32, width and height f32, how far the right
and left eye are open f32, whether 3D points were found u8, their error f32, then f32: rotation quaternion x y z w, Euler
angles 3, translation 3, confidences 68, points 68 x 2, 3D points 70 x 3 (66, 67 pupils; 68, 69 eyeballs), 14 features.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from thadistill.drive.protocols.face import Face, PacketError

PORT: Final = 11573

_SIDES = ("left", "right")
_FEATURES = (
    *("eye_left", "eye_right"),
    *(f"eyebrow_{what}_{side}" for side in _SIDES for what in ("steepness", "updown", "quirk")),
    *(f"mouth_corner_{what}_{side}" for side in _SIDES for what in ("updown", "inout")),
    *("mouth_open", "mouth_wide"),
)
_LAYOUT: Final = np.dtype(
    [
        *(("time", "<f8"), ("face", "<i4"), ("size", "<f4", 2), ("open", "<f4", 2), ("found", "u1"), ("error", "<f4")),
        *(("quaternion", "<f4", 4), ("euler", "<f4", 3), ("translation", "<f4", 3), ("confidence", "<f4", 68)),
        *(("points", "<f4", (68, 2)), ("points_3d", "<f4", (70, 3)), ("features", "<f4", len(_FEATURES))),
    ]
)
SIZE: Final = _LAYOUT.itemsize
_MOST_FACES = 36  # what a datagram holds
# The tracker's camera axes are down, right, away; its face model's are left in the image, up, to the camera.
_UPRIGHT = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1]])
_TO_VIEWER = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, -1]])  # camera axes to right, up, to the viewer
_GAZE_SINE = 0.5  # of the angle, 30 degrees, that counts as looking fully aside


def parse_openseeface(packet: bytes) -> Face:
    """The first face in a packet (that of the lowest id), as blendshapes.

    OpenSeeFace measures how far features are from their median, -1 to 1; here 1 becomes a blendshape's full strength.

    Raises: PacketError when the packet is not whole faces, or a value that is needed is not finite.
    """
    count, rest = divmod(len(packet), SIZE)
    if rest or not 1 <= count <= _MOST_FACES:
        raise PacketError(f"a packet of {len(packet)} bytes; expected OpenSeeFace's, {SIZE} for each face")
    faces = np.frombuffer(packet, _LAYOUT)
    face = faces[np.argmin(faces["face"])]
    needed = np.concatenate([face["open"], face["features"]])
    if not np.isfinite(needed).all():
        raise PacketError("an OpenSeeFace packet with values that are not finite; expected numbers")
    features = {name: float(value) for name, value in zip(_FEATURES, face["features"], strict=True)}
    opened = dict(zip(("Right", "Left"), (float(value) for value in face["open"]), strict=True))
    shapes = _eyes_and_brows(features, opened) | _mouth(features)
    head = None
    if face["found"]:
        shapes |= _gaze(face["points_3d"])
        head = _head(face["quaternion"])
    return Face({name: min(1.0, max(0.0, value)) for name, value in shapes.items()}, head)


def _eyes_and_brows(features: dict[str, float], opened: dict[str, float]) -> dict[str, float]:
    shapes: dict[str, float] = {}
    for side in ("Left", "Right"):
        up = features[f"eyebrow_updown_{side.lower()}"]
        shapes |= {
            f"eyeBlink{side}": 1 - opened[side],
            f"eyeWide{side}": 0.5 * features[f"eye_{side.lower()}"],
            f"browOuterUp{side}": up,
            f"browDown{side}": -0.4 * up,  # full in the mapping
        }
    return shapes


def _mouth(features: dict[str, float]) -> dict[str, float]:
    opened = min(1.0, max(0.0, features["mouth_open"]))
    wide = features["mouth_wide"]
    narrow = max(0.0, -wide)
    lips = opened * (1 - 0.6 * narrow) + max(0.0, wide)
    shapes = {
        "jawOpen": 0.1 + 0.3 * opened if opened > 0.05 else 0.0,
        "mouthLowerDownLeft": lips / 2,
        "mouthLowerDownRight": lips / 2,
        "mouthPucker": 0.75 * narrow,
        "mouthFunnel": 0.5 * narrow * opened,
    }
    for side in ("Left", "Right"):
        down = features[f"mouth_corner_updown_{side.lower()}"]
        shapes |= {f"mouthSmile{side}": -down, f"mouthFrown{side}": 0.3 * down}
    return shapes


def _gaze(points: np.ndarray) -> dict[str, float]:
    """Where both eyes look; the points' axes are the head's (rotation is taken out of them), with y down."""
    if not np.isfinite(points[66:70]).all():
        return {}
    pupils, eyeballs = points[66:68].astype(float), points[68:70].astype(float)
    directions = pupils - eyeballs
    lengths = np.linalg.norm(directions, axis=1)
    left = eyeballs[1] - eyeballs[0]
    if min(lengths.min(), np.linalg.norm(left)) < 1e-6:
        return {}
    gaze = (directions / lengths[:, None]).mean(axis=0)
    to_left = float(gaze @ left) / float(np.linalg.norm(left)) / _GAZE_SINE
    upwards = -float(gaze[1]) / _GAZE_SINE
    return {
        **dict.fromkeys(("eyeLookOutLeft", "eyeLookInRight"), to_left),
        **dict.fromkeys(("eyeLookInLeft", "eyeLookOutRight"), -to_left),
        **dict.fromkeys(("eyeLookUpLeft", "eyeLookUpRight"), upwards),
        **dict.fromkeys(("eyeLookDownLeft", "eyeLookDownRight"), -upwards),
    }


def _head(quaternion: np.ndarray) -> np.ndarray | None:
    """The head's rotation matrix; axes to the right, up, to the viewer."""
    if not np.isfinite(quaternion).all() or not 0.1 < float(np.linalg.norm(quaternion.astype(float))) < 10:
        return None
    from scipy.spatial.transform import Rotation  # 20 MB, half a second: where it is needed

    in_camera = Rotation.from_quat(quaternion).inv().as_matrix() @ _UPRIGHT.T  # the tracker sends the inverse's
    return _TO_VIEWER @ in_camera @ _TO_VIEWER.T
