"""Blendshapes: the 52 ARKit blendshapes and a head rotation, as face trackers give them, to the 45-value pose.

The mapping is that of the THA4 demo programs, so that their users' faces move characters here alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

_SIDES = ("Left", "Right")
_EYES = ("LookIn", "LookOut", "LookDown", "LookUp", "Blink", "Squint", "Wide")
_MOUTH = ("Dimple", "Frown", "LowerDown", "Press", "Smile", "Stretch", "UpperUp")
_SIDED = (
    *(f"eye{name}" for name in _EYES),
    *("browDown", "browOuterUp", "noseSneer", "cheekSquint"),
    *(f"mouth{name}" for name in _MOUTH),
)
BLENDSHAPES: Final = tuple(
    sorted(
        [f"{name}{side}" for name in _SIDED for side in _SIDES]
        + ["browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawRight", "jawOpen", "tongueOut"]
        + [f"mouth{name}" for name in ("Close", "Funnel", "Left", "Pucker", "Right")]
        + [f"mouth{name}{lip}" for name in ("Roll", "Shrug") for lip in ("Lower", "Upper")]
    )
)
EYEBROW_DOWN: Final = ("angry", "troubled", "serious", "lowered")
WINK: Final = ("normal", "relaxed")

# What each mouth morph looks like in (open, lower lip down, funnel, pucker): aaa, iii, uuu, ooo
_VOWELS = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0.5, 0.3, 0.25, 0.75], [1, 0.5, 0.5, 0.4]])
_SPARSITY = 0.01  # prefers one vowel to a mixture that looks the same
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
    def angles(head: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
        """A head rotation's angles in degrees about the fixed axes x, y, z (to the right, up, to the viewer)."""
        x, y, z = Rotation.from_matrix(np.asarray(head, dtype=float)).as_euler("xyz", degrees=True)
        return float(x), float(y), float(z)

    def __call__(
        self,
        blendshapes: Mapping[str, float],
        head: Float[np.ndarray, "3 3"] | None = None,
        breathing: float = 0.0,
    ) -> Float[Tensor, "45"]:
        """The pose of one frame, within its ranges.

        Args:
            blendshapes: by ARKit's names, each in [0, 1]; names that are absent count as 0, others are ignored
                (trackers add ``_neutral``).
            head: rotation matrix of the head, None for none.
            breathing: in [0, 1], see :func:`breathing`.

        Raises: UserError when a blendshape is not a finite number.
        """
        b = {name: float(blendshapes.get(name, 0.0)) for name in BLENDSHAPES}
        wrong = next((name for name, value in b.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise UserError(f"blendshape {wrong} is {b[wrong]}; expected a number from 0 to 1: check the tracker")
        smile = (b["mouthSmileLeft"] + b["mouthSmileRight"]) / 2 + b["mouthShrugUpper"]
        values = self._eyes_and_brows(b, smile) | _irises(b) | _mouth(b, smile) | self._rotation(head)
        values["breathing"] = breathing
        pose = POSE_PARAMETERS.rest()[0]
        for name, value in values.items():
            pose[POSE_PARAMETERS.index(name)] = value
        return POSE_PARAMETERS.clamp(pose)

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

    def _rotation(self, head: np.ndarray | None) -> dict[str, float]:
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


def _vowels(shape: Float[np.ndarray, "4"]) -> list[float]:
    """Weights in [0, 1] of the four vowels whose sum is nearest ``shape``, with a small price on weight."""

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        off = weights @ _VOWELS - shape
        distance = math.sqrt(float(off @ off) + 1e-12)  # smooth where it is 0
        return distance + _SPARSITY * float(weights.sum()), _VOWELS @ off / distance + _SPARSITY

    # from 0, as the demos begin: the cost has a kink where the fit is exact, and other starts stop at other vowels
    found = minimize(cost, np.zeros(4), jac=True, bounds=[(0, 1)] * 4, method="L-BFGS-B")
    return [float(weight) for weight in found.x]
