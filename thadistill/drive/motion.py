"""Motion: what a driven character does on top of its tracker: smoothing, breathing, idle blinking, the mirror."""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.drive.blendshapes import breathing
from thadistill.pose import POSE_PARAMETERS

# Which pose parameters a kind of source drives
ALL: Final = frozenset(POSE_PARAMETERS)
FACE: Final = ALL - {"breathing"}
MOUTH: Final = frozenset(f"mouth_{vowel}" for vowel in ("aaa", "iii", "uuu", "eee", "ooo"))

_DERIVATIVE_CUTOFF = 1.0  # Hz, as the paper has it


class Response(NamedTuple):
    """How a One-Euro filter follows."""

    cutoff: float  # Hz at rest: lower is steadier
    speed: float  # Hz more for each unit a second that a value moves: higher is quicker


# Eyes must follow a blink of a tenth of a second; mouths read better when they flow; heads are in between.
RESPONSES: Final = {"eyes": Response(3, 3), "head": Response(1.5, 2), "mouth": Response(1.2, 1)}


def part_of(name: str) -> str:
    """The part of the face, of RESPONSES, that a pose parameter belongs to. Brows move with the mouth's calm."""
    if name.startswith(("eye_", "iris_")):
        return "eyes"
    return "mouth" if name.startswith(("mouth_", "eyebrow_")) else "head"


class OneEuroFilter:
    """One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) for values that come together at irregular times.

    Args:
        cutoff: Hz at rest, per value or for all.
        speed: Hz more for each unit a second, per value or for all.
    """

    def __init__(self, cutoff: float | int | np.ndarray, speed: float | int | np.ndarray) -> None:
        self.cutoff, self.speed = np.asarray(cutoff, float), np.asarray(speed, float)
        self.reset()

    def reset(self) -> None:
        """Forgets all that was seen: the next values are taken as they are."""
        self._value: np.ndarray | None = None

    def next(self, values: np.ndarray | float | int, time: float | int) -> np.ndarray:
        """The smoothed values.

        Args:
            values: those that are not finite count as not seen.
            time: in seconds; one that is not finite, or not later than a value's last, counts as not seen.
        """
        given = np.asarray(values, float)
        if self._value is None:
            self._value, self._raw = np.full(given.shape, np.nan), np.full(given.shape, np.nan)
            self._derivative, self._time = np.zeros(given.shape), np.full(given.shape, np.nan)
        seen = np.isfinite(given) & math.isfinite(time)
        first = seen & np.isnan(self._value)
        step = np.where(first, 1.0, time - self._time)
        later = seen & ~first & (step > 0)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            moved = (given - self._raw) / step - self._derivative
            derivative = self._derivative + _share(np.asarray(_DERIVATIVE_CUTOFF), step) * moved
            cutoff = self.cutoff + self.speed * np.abs(derivative)
            value = self._value + _share(cutoff, step) * (given - self._value)
        self._derivative = np.where(later, derivative, self._derivative)
        self._value = np.where(first, given, np.where(later, value, self._value))
        self._raw = np.where(first | later, given, self._raw)
        self._time = np.where(first | later, time, self._time)
        return self._value.copy()


def _share(cutoff: np.ndarray | np.floating[Any], step: np.ndarray) -> np.ndarray:
    """The share of a new value that a low-pass filter of ``cutoff`` Hz takes in after ``step`` seconds."""
    turn = 2 * np.pi * cutoff * step
    return np.where(np.isfinite(turn), turn / (turn + 1), 1.0)


class PoseFilter:
    """Smooths poses: a One-Euro filter for each of the 45 values, by its part of the face.

    Args:
        smoothing: 0 (none) to 1 (strong); 0.5 is what RESPONSES were chosen for, twice as much is a quarter of their
            bandwidth.
    """

    def __init__(self, smoothing: float | int = 0.5) -> None:
        strength = min(1.0, max(0.0, smoothing))
        self._none = strength == 0
        scale = (0.5 / strength) ** 2 if strength else 1.0
        responses = [RESPONSES[part_of(name)] for name in POSE_PARAMETERS]
        cutoff, speed = (scale * np.array(values, float) for values in zip(*responses, strict=True))
        self._filter = OneEuroFilter(cutoff, speed)

    def reset(self) -> None:
        """Forgets all that was seen: the next pose is taken as it is."""
        self._filter.reset()

    def next(self, pose: Float[Tensor, " 45"], time: float | int) -> Float[Tensor, " 45"]:
        """The smoothed pose at ``time`` in seconds; values that are not finite keep their last."""
        if self._none and bool(torch.isfinite(pose).all()):
            return pose
        return torch.from_numpy(np.nan_to_num(self._filter.next(pose.numpy(), time))).float()


class Blinks:
    """Blinks at random moments, for sources that see no eyes: a Poisson process with a pause after each.

    Args:
        per_minute: on average; people blink 10 to 20 times. 0: never.
        seed: of the moments.
    """

    _CLOSING_S, _CLOSED_S, _OPENING_S = 0.06, 0.04, 0.12
    _PAUSE_S = 0.6  # from one to the next at the least

    def __init__(self, per_minute: float | int = 15, seed: int = 0) -> None:
        self.per_minute = per_minute
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._next = -math.inf

    def at(self, seconds: float | int) -> float:
        """How far the eyes are closed, 0 to 1. Times of successive calls must not decrease."""
        if self.per_minute <= 0:
            return 0.0
        if self._next == -math.inf or seconds > self._next + self._PAUSE_S:
            self._next = seconds + self._wait()
        since = seconds - self._next
        if since < self._CLOSING_S + self._CLOSED_S:
            return min(1.0, max(0.0, since / self._CLOSING_S))
        return max(0.0, 1 - (since - self._CLOSING_S - self._CLOSED_S) / self._OPENING_S)

    def _wait(self) -> float:
        return float(self._generator.exponential(max(60 / self.per_minute - self._PAUSE_S, 0.0)))


_BREATHING = POSE_PARAMETERS.index("breathing")
_WINKS = [POSE_PARAMETERS.index(f"eye_wink_{side}") for side in ("left", "right")]
_LIDS = [i for i, name in enumerate(POSE_PARAMETERS) if re.match(r"eye_(wink|happy_wink|relaxed)", name)]
_FADED = [
    i for i, name in enumerate(POSE_PARAMETERS) if re.match(r"eye_(happy_wink|relaxed|surprised|unimpressed)", name)
]


def moves_lids(drives: frozenset[str]) -> bool:
    """Whether a source that drives these parameters blinks by itself."""
    return any(POSE_PARAMETERS[index] in drives for index in _LIDS)


def close_lids(pose: Any, closed: float) -> None:
    """Closes the lids of a pose [45], in place: 0 (as they are) to 1; lids closed twice over look wrong."""
    pose[_FADED] *= 1 - closed
    for wink in _WINKS:
        pose[wink] = max(float(pose[wink]), closed)


class Idle:
    """What a character does by itself.

    Args:
        breaths, blinks: per minute; 0: none.
        seed: of the blinks' moments.
    """

    def __init__(self, breaths: float | int = 20, blinks: float | int = 15, seed: int = 0) -> None:
        self.breaths = breaths
        self._blinks = Blinks(blinks, seed)

    def apply(
        self, pose: Float[Tensor, " 45"], seconds: float | int, drives: frozenset[str] = frozenset()
    ) -> Float[Tensor, " 45"]:
        """The pose with breathing and blinks, unless its source drives these by itself.

        Times of successive calls must not decrease.
        """
        alive = pose.clone()
        if "breathing" not in drives and self.breaths > 0:
            alive[_BREATHING] = breathing(float(seconds), float(self.breaths))
        closed = self._blinks.at(seconds)
        if closed > 0 and not moves_lids(drives):
            close_lids(alive, closed)
        return alive


_TURNED = frozenset({"iris_rotation_y", "head_y", "neck_z", "body_y", "body_z"})
_OTHER = [
    POSE_PARAMETERS.index(re.sub(r"_(left|right)$", lambda side: {"left": "_right", "right": "_left"}[side[1]], name))
    for name in POSE_PARAMETERS
]
_SIGN = torch.tensor([-1.0 if name in _TURNED else 1.0 for name in POSE_PARAMETERS])


def mirrored(pose: Float[Tensor, "*n 45"]) -> Float[Tensor, "*n 45"]:
    """The pose as its mirror image: left and right change places."""
    return pose[..., _OTHER] * _SIGN
