"""Pose: the 45 values that move a character, their names, order and ranges."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

_SIDES = ("left", "right")


def _pairs(*stems: str) -> list[str]:
    return [f"{stem}_{side}" for stem in stems for side in _SIDES]


_EYEBROW = _pairs(*(f"eyebrow_{morph}" for morph in ("troubled", "angry", "lowered", "raised", "happy", "serious")))
_FACE = [
    *_pairs("eye_wink", "eye_happy_wink", "eye_surprised", "eye_relaxed", "eye_unimpressed"),
    *_pairs("eye_raised_lower_eyelid", "iris_small"),
    *("mouth_aaa", "mouth_iii", "mouth_uuu", "mouth_eee", "mouth_ooo", "mouth_delta"),
    *_pairs("mouth_lowered_corner", "mouth_raised_corner"),
    *("mouth_smirk", "iris_rotation_x", "iris_rotation_y"),
]
_ROTATION = ["head_x", "head_y", "neck_z", "body_y", "body_z", "breathing"]
_SIGNED = frozenset({"iris_rotation_x", "iris_rotation_y", *_ROTATION[:5]})


class PoseParameters(tuple[str, ...]):
    """The names of the pose parameters in order, with their ranges and group slices.

    A tuple of 45 names: ``POSE_PARAMETERS.index("head_x") == 39``. ``low`` and ``high`` are the ranges, unitless.
    The order is that of the published systems (THA3 and THA4).
    """

    eyebrow: Final = slice(0, 12)
    face: Final = slice(12, 39)
    rotation: Final = slice(39, 45)
    facial: Final = slice(0, 39)  # eyebrow and face: what the student's face morpher sees

    @property
    def low(self) -> tuple[float, ...]:
        """Smallest value of each parameter: -1 for irises and rotations, else 0."""
        return tuple(-1.0 if name in _SIGNED else 0.0 for name in self)

    @property
    def high(self) -> tuple[float, ...]:
        """Largest value of each parameter: always 1."""
        return (1.0,) * len(self)

    def clamp(self, pose: Float[Tensor, "*n 45"]) -> Float[Tensor, "*n 45"]:
        """The pose with every value brought into its range."""
        return torch.minimum(torch.maximum(pose, pose.new_tensor(self.low)), pose.new_tensor(self.high))

    def rest(self, n: int = 1) -> Float[Tensor, "n 45"]:
        """n copies of the rest pose (all zeros)."""
        return torch.zeros(n, len(self))


POSE_PARAMETERS: Final = PoseParameters([*_EYEBROW, *_FACE, *_ROTATION])
POSE_SIZE: Final = len(POSE_PARAMETERS)
FACIAL_SIZE: Final = POSE_PARAMETERS.facial.stop
