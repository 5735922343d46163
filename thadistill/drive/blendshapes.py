"""Blendshapes: the 52 ARKit blendshapes and a head rotation, as face trackers give them, to the 45-value pose.

The mapping is that of the THA4 demo programs, so that their users' faces move characters here alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.drive.names import BLENDSHAPES, arkit
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

_SIDES = ("Left", "Right")
EYEBROW_DOWN: Final = ("angry", "troubled", "serious", "lowered")
WINK: Final = ("normal", "relaxed")

# What each mouth morph looks like in (open, lower lip down, funnel, pucker): aaa, iii, uuu, ooo
_VOWELS = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0.5, 0.3, 0.25, 0.75], [1, 0.5, 0.5, 0.4]])
_SPARSITY = 0.01  # prefers one vowel to a mixture that looks the same
_SINGULAR = 1e-6  # of a matrix: its smallest scale against its largest
_ABSENT = dict.fromkeys(BLENDSHAPES, 0.0)
_INDEX = {name: index for index, name in enumerate(POSE_PARAMETERS)}
_LOW = np.array(POSE_PARAMETERS.low, np.float32)
_FULL_TURN = np.array([-15.0, -10.0, 15.0])  # degrees of x, y, z at which a pose value is 1


@dataclass(frozen=True)
class BlendshapeMapper:
    """Maps a tracked face to a pose.

    Args:
        eyebrow_down: the morph that lowered brows are shown as, of EYEBROW_DOWN.
        wink: whether a closed eye is a wink or relaxed, of WINK.
        neutral: the head's angles about x, y, z in degrees when looking straight ahead; see :meth:`angles`.

    Raises: UserError for a morph of another name.
    """

    eyebrow_down: str = "angry"
    wink: str = "normal"
    neutral: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name, value, choices in (("eyebrow_down", self.eyebrow_down, EYEBROW_DOWN), ("wink", self.wink, WINK)):
            if value not in choices:
                raise UserError(f"{name}={value}; expected one of {', '.join(choices)}")

    @staticmethod
    def angles(head: Any) -> tuple[float, float, float]:
        """A head rotation's angles in degrees about the fixed axes x, y, z (to the right, up, to the viewer).

        Args:
            head: a matrix, 3x3 or 4x4 (translation is left out, scale does no harm); three angles are taken as they are.

        Raises: UserError for another shape, and for a matrix that is not finite, singular or mirrored.
        """
        try:
            given = np.asarray(head, dtype=float)
        except (TypeError, ValueError):
            raise UserError(f"the head is {head!r}; expected a 3x3 or 4x4 matrix, or three angles") from None
        if given.shape not in ((3,), (3, 3), (4, 4)):
            raise UserError(
                f"the head has shape {given.shape}; expected a 3x3 or 4x4 matrix, or three angles in degrees"
            )
        if not np.isfinite(given).all():
            raise UserError("the head's matrix is not finite; expected a rotation: check the tracker")
        if given.ndim == 1:
            return float(given[0]), float(given[1]), float(given[2])
        u, scales, v = np.linalg.svd(given[:3, :3])
        if scales[2] <= _SINGULAR * scales[0] or np.linalg.det(u @ v) < 0:
            raise UserError("the head's matrix is singular or mirrored; expected a rotation: check the tracker")
        from scipy.spatial.transform import Rotation  # 20 MB, half a second: where it is needed

        x, y, z = Rotation.from_matrix(u @ v).as_euler("xyz", degrees=True)
        return float(x), float(y), float(z)

    def calibrated(self, heads: Iterable[Any]) -> BlendshapeMapper:
        """The mapper for which the mean direction of some heads, as :meth:`angles` takes them, is straight ahead.

        Raises: UserError when there are none.
        """
        angles = [self.angles(head) for head in heads]
        if not angles:
            raise UserError("no head to calibrate with; expected a tracked face that looks straight ahead")
        x, y, z = np.mean(angles, axis=0)
        return replace(self, neutral=(float(x), float(y), float(z)))

    def __call__(
        self,
        blendshapes: Any,
        head: Any = None,
        breathing: float = 0.0,
    ) -> Float[Tensor, "45"]:
        """The pose of one frame, within its ranges.

        Args:
            blendshapes: a mapping by ARKit's names, or another tracker's (:func:`thadistill.drive.names.arkit`); absent
                names count as 0, unknown ones are ignored unless all are.
            head: what :meth:`angles` takes, None for none.
            breathing: in [0, 1], see :func:`breathing`.

        Raises: UserError when a blendshape or the head is not finite, the head is no rotation, or all names are unknown.
        """
        b = _ABSENT | arkit(blendshapes)
        smile = (b["mouthSmileLeft"] + b["mouthSmileRight"]) / 2 + b["mouthShrugUpper"]
        values = self._eyes_and_brows(b, smile) | _irises(b) | _mouth(b, smile) | self._rotation(head)
        values["breathing"] = breathing
        pose = np.zeros(len(POSE_PARAMETERS), np.float32)
        for name, value in values.items():
            pose[_INDEX[name]] = value
        return torch.from_numpy(np.clip(pose, _LOW, 1))

    def _eyes_and_brows(self, b: Mapping[str, float], smile: float) -> dict[str, float]:
        smiling = _ramp(smile, 0.4, 0.6)  # a smile closes eyes and lifts brows happily
        closed = "eye_wink" if self.wink == "normal" else "eye_relaxed"
        values: dict[str, float] = {}
        for side in _SIDES:
            end = f"_{side.lower()}"
            values |= {
                f"eyebrow_raised{end}": b["browInnerUp"] + b[f"browOuterUp{side}"],
                f"eyebrow_{self.eyebrow_down}{end}": (1 - smiling) * _ramp(b[f"browDown{side}"], 0.0, 0.4),
                f"eyebrow_happy{end}": _ramp(smile, 0.0, 1.0) * smiling,
                f"eye_surprised{end}": b[f"eyeWide{side}"] / 0.5,
                f"{closed}{end}": (1 - smiling) * _ramp(b[f"eyeBlink{side}"], 0.0, 0.8),
                f"eye_happy_wink{end}": smiling * _ramp(b[f"eyeBlink{side}"], 0.0, 0.8),
                f"eye_raised_lower_eyelid{end}": _ramp(b[f"cheekSquint{side}"], 0.1, 0.7),
            }
        return values

    def _rotation(self, head: Any) -> dict[str, float]:
        if head is None:
            return {}
        x, y, z = (np.array(self.angles(head)) - self.neutral) / _FULL_TURN
        return {"head_x": x, "head_y": y, "body_y": y, "neck_z": z, "body_z": z}


def breathing(seconds: float, per_minute: float = 20.0) -> float:
    """The breathing value at a time: 0 at the start of each breath, 1 in its middle."""
    return (1 - math.cos(2 * math.pi * seconds * per_minute / 60)) / 2


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _irises(b: Mapping[str, float]) -> dict[str, float]:
    """Both eyes together, full at three quarters of what a tracker can report."""
    sideways = b["eyeLookInLeft"] - b["eyeLookOutLeft"] - b["eyeLookInRight"] + b["eyeLookOutRight"]
    upwards = b["eyeLookUpLeft"] + b["eyeLookUpRight"] - b["eyeLookDownLeft"] - b["eyeLookDownRight"]
    return {"iris_rotation_y": sideways / 2 / 0.75, "iris_rotation_x": upwards / 2 / 0.75}


def _mouth(b: Mapping[str, float], smile: float) -> dict[str, float]:
    """A closed mouth has corners; an open one is the mixture of vowels that looks most like it."""
    corners = {f"mouth_raised_corner_{side.lower()}": _ramp(smile, 0.0, 1.0) for side in _SIDES}
    opened = _ramp(b["jawOpen"], 0.1, 0.4)
    if opened == 0:
        lowered = _ramp(b["mouthFrownLeft"] + b["mouthFrownRight"], 0.0, 0.6)
        return corners | {f"mouth_lowered_corner_{side.lower()}": lowered for side in _SIDES}
    lips = _ramp(b["mouthLowerDownLeft"] + b["mouthLowerDownRight"], 0.0, 1.0)
    aaa, iii, *rounded = _vowels(np.array([opened, lips, b["mouthFunnel"], b["mouthPucker"]]))
    rounding, funnel = min(1.0, sum(rounded)), _ramp(b["mouthFunnel"], 0.25, 0.5)
    return corners | {
        "mouth_aaa": aaa,
        "mouth_iii": iii,
        "mouth_uuu": rounding * (1 - funnel),
        "mouth_ooo": rounding * funnel,
    }


def _free_faces() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each face of the cube of weights but the corner 0: least squares as ``linear @ shape + offset``, and the way that
    the price on weight moves it, per distance; see :func:`_vowels`."""
    linear, offset, price, stretch = [], [], [], []
    for kinds in itertools.product((0, 1, None), repeat=4):  # None: free
        free = np.array([kind is None for kind in kinds])
        fixed = np.array([kind == 1 for kind in kinds], dtype=float)
        rows = _VOWELS[free]
        inverse = np.linalg.inv(rows @ rows.T)
        expand = np.eye(4)[:, free]
        linear.append(expand @ inverse @ rows)
        offset.append(fixed - expand @ inverse @ rows @ (fixed @ _VOWELS))
        price.append(_SPARSITY * expand @ inverse.sum(axis=1))
        stretch.append(1 / math.sqrt(1 - _SPARSITY**2 * inverse.sum()))
    return np.array(linear), np.array(offset), np.array(price), np.array(stretch)


_LINEAR, _OFFSET, _PRICE, _STRETCH = _free_faces()


def _vowels(shape: Float[np.ndarray, "4"]) -> list[float]:
    """Weights d in [0, 1] of the four vowels with the least ``|d _VOWELS - shape| + _SPARSITY sum(d)``.

    The cost is convex, so its minimum is the best point among those that are stationary on their face of the cube of
    weights. On a face (some weights fixed at 0 or 1, A the rows of the free ones, p what least squares leaves over) such a
    point is known in closed form: least squares minus ``_SPARSITY r G 1``, where ``G = (A A')^-1`` and
    ``r = |p| / sqrt(1 - _SPARSITY^2 1'G1)`` is the distance there. All 81 are tried at once. The demos' minimiser
    sometimes stops short of it.
    """
    weights = _LINEAR @ shape + _OFFSET
    distance = np.linalg.norm(weights @ _VOWELS - shape, axis=1) * _STRETCH
    weights -= distance[:, None] * _PRICE
    inside = ((weights >= -1e-9) & (weights <= 1 + 1e-9)).all(axis=1)
    weights = weights[inside].clip(0, 1)
    cost = np.linalg.norm(weights @ _VOWELS - shape, axis=1) + _SPARSITY * weights.sum(axis=1)
    return [float(weight) for weight in weights[np.argmin(cost)]]
