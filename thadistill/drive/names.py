"""Names: what trackers call blendshapes and in what scale they give them, to ARKit's names and [0, 1]."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from thadistill.errors import UserError

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
_PERCENT_ABOVE = 1.5  # values of trackers that give 0 to 1 exceed 1 by rounding only
_LETTERS = {name.lower(): name for name in BLENDSHAPES}
_NEUTRAL = "_neutral"  # MediaPipe's: how little the face shows


def arkit_name(name: str) -> str | None:
    """ARKit's name for a tracker's, None for what is no blendshape.

    Known are ``eyeBlinkLeft`` (ARKit, MediaPipe), ``EyeBlinkLeft`` (Live Link), ``eyeBlink_L`` (iFacialMocap, Maya), in
    any case, and with a mesh's name before a dot.
    """
    if name in _LETTERS.values():
        return name
    last = name.rpartition(".")[2].strip()
    sided = re.sub(r"_(l|r)$", lambda found: "left" if found[1] in "lL" else "right", last, flags=re.IGNORECASE)
    return _LETTERS.get(re.sub(r"[_\s-]", "", sided).lower())


def arkit(blendshapes: Any) -> dict[str, float]:
    """A tracker's blendshapes by ARKit's names, in [0, 1].

    Args:
        blendshapes: a mapping by any of the names that :func:`arkit_name` knows, others are left out; 0 to 1, or 0 to
            100 where a value exceeds 1.5.

    Raises: UserError when none of the names is a blendshape's, or a value is not a finite number.
    """
    if not isinstance(blendshapes, Mapping):
        raise UserError(f"blendshapes={blendshapes!r}; expected numbers by ARKit's names, such as jawOpen")
    found: dict[str, float] = {}
    for name, value in blendshapes.items():
        known = arkit_name(str(name))
        if known is None:
            continue
        try:
            found[known] = float(value)
        except (TypeError, ValueError):
            found[known] = math.nan
        if not math.isfinite(found[known]):
            raise UserError(f"blendshape {name} is {value}; expected a number from 0 to 1: check the tracker")
    if not found and any(name != _NEUTRAL for name in blendshapes):
        first = next(str(name) for name in blendshapes if name != _NEUTRAL)
        raise UserError(
            f"none of {len(blendshapes)} names is a blendshape's, {first!r} the first; expected ARKit's, such as jawOpen, "
            "JawOpen or eyeBlink_L: check what the tracker sends"
        )
    scale = 0.01 if max(found.values(), default=0.0) > _PERCENT_ABOVE else 1.0
    return {name: min(1.0, max(0.0, scale * value)) for name, value in found.items()}
