"""Follower: poses that come at a source's pace, with gaps, to a pose at any moment; read by the live player."""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.drive.blendshapes import breathing
from thadistill.drive.motion import Blinks, PoseFilter, close_lids, moves_lids
from thadistill.pose import POSE_PARAMETERS, POSE_SIZE

State = Literal["waiting", "driven", "held", "resting"]

HOLD_S: Final = 1.0  # a face that a hand hides for this long is not lost
RELEASE_S: Final = 0.5  # time constant of the way to rest
RETURN_S: Final = 0.6  # a source that is back is approached gently for this long
RETURN_EASE_S: Final = 0.2  # time constant at the beginning of that
SILENT_S: Final = 0.25  # without a pose for this long, the last one is held
IDLE_EASE_S: Final = 0.3  # time constant of idle motion's coming and going
_BREATHING = POSE_PARAMETERS.index("breathing")


class Follower:
    """Follows the poses of a source, smoothed: holds the last for a second, then eases to rest, and comes back gently.

    What the source does not drive breathes and blinks by itself, as everything does while the source is gone.

    Args:
        drives: the parameters that the source sets.
        smoothing: 0 (none) to 1 (strong), see :class:`thadistill.drive.motion.PoseFilter`.
        seed: of the moments of idle blinks.

    Times are seconds of one clock; those of successive calls must not decrease.
    """

    def __init__(
        self, drives: frozenset[str] = frozenset(POSE_PARAMETERS), smoothing: float = 0.0, seed: int = 0
    ) -> None:
        self._breathes = "breathing" not in drives
        self._blind = not moves_lids(drives)
        self._target: np.ndarray = np.zeros(POSE_SIZE)
        self._current: np.ndarray = np.zeros(POSE_SIZE)
        self._seen = self._found = self._asked = -math.inf
        self._breath = self._blink = 0.0  # strengths of idle motion
        self._filter = PoseFilter(smoothing)
        self._blinks_at = Blinks(seed=seed)

    def track(self, pose: Float[Tensor, " 45"], time: float) -> None:
        """Takes the source's newest pose; one that is older than the last is left out."""
        if time <= self._seen:
            return
        if time - self._seen > HOLD_S:
            self._found = time
            self._filter.reset()
        smooth = self._filter.next(pose.float(), time)
        self._target = POSE_PARAMETERS.clamp(smooth).numpy().astype(float)
        self._seen = time

    def state(self, time: float) -> State:
        """``waiting`` for a first pose, ``driven``, ``held`` while none comes, ``resting`` after HOLD_S of that."""
        if self._seen == -math.inf:
            return "waiting"
        silent = time - self._seen
        return "driven" if silent <= SILENT_S else "held" if silent <= HOLD_S else "resting"

    def at(self, time: float) -> Float[Tensor, " 45"]:
        """The pose to show, within its ranges."""
        step = min(max(time - self._asked, 0.0), 1.0)
        self._asked = time
        gone = self.state(time) in ("waiting", "resting")
        share = 1 - math.exp(-step / RELEASE_S) if gone else self._welcome(time, step)
        self._current += share * ((0.0 if gone else self._target) - self._current)
        pose = self._current.copy()
        idle = 1 - math.exp(-step / IDLE_EASE_S)
        self._breath += idle * (float(self._breathes or gone) - self._breath)
        self._blink += idle * (float(self._blind or gone) - self._blink)
        pose[_BREATHING] = max(pose[_BREATHING], self._breath * breathing(time))
        closed = self._blink * self._blinks_at.at(time)
        close_lids(pose, closed)
        return torch.from_numpy(pose).float()

    def _welcome(self, time: float, step: float) -> float:
        """The share of the way to a source that is back made in a step: little at first, then all."""
        constant = max(0.0, 1 - (time - self._found) / RETURN_S) * RETURN_EASE_S
        return 1 - math.exp(-step / constant) if constant > 0 else 1.0
