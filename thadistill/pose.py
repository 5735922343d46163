"""Pose: the 45 values that move a character, their names, order and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError

_SIDES = ("left", "right")
PoseLike: TypeAlias = Tensor | np.ndarray | Sequence[Any]


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


def as_poses(pose: PoseLike, like: Tensor) -> Float[Tensor, "n 45"]:
    """Poses as networks take them: one [45] or several [n, 45], a tensor, array or list of any numbers.

    Args:
        like: whose precision and device they get.

    Raises: UserError for another width, or for what holds no numbers.
    """
    try:
        given = pose if isinstance(pose, Tensor) else torch.from_numpy(np.asarray(pose, dtype=np.float32))
    except (TypeError, ValueError):
        raise UserError(
            f"a pose of {type(pose).__name__} holds no numbers; expected {POSE_SIZE}, or rows of them"
        ) from None
    if given.ndim not in (1, 2) or given.shape[-1] != POSE_SIZE or given.is_complex():
        raise UserError(f"a pose of shape {tuple(given.shape)}; expected [{POSE_SIZE}] or [n, {POSE_SIZE}]")
    return given.reshape(-1, POSE_SIZE).to(like)


def check_finite(poses: Float[Tensor, "n 45"]) -> Float[Tensor, "n 45"]:
    """The poses, all of whose values are numbers.

    Raises: UserError, which names the first that is not.
    """
    finite = torch.isfinite(poses)
    if not bool(finite.all()):
        row, column = (int(index) for index in torch.nonzero(~finite)[0])
        raise UserError(
            f"{POSE_PARAMETERS[column]} of pose {row} is {float(poses[row, column])}; expected a number in its range"
        )
    return poses
