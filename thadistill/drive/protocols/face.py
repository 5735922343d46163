"""Face: what every tracker's packet becomes, before it is mapped to a pose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from thadistill.errors import UserError


class PacketError(UserError):
    """A packet that is not of its protocol: what came, what was expected."""


class Face(NamedTuple):
    """A tracked face.

    ``blendshapes`` are by ARKit's names, in [0, 1]; ``head`` is what
    :meth:`~thadistill.drive.blendshapes.BlendshapeMapper.angles` takes (degrees, or a matrix; None for none); ``pose`` are
    pose values that the tracker gives itself, which go before the blendshapes'.
    """

    blendshapes: Mapping[str, float]
    head: Any = None
    pose: Mapping[str, float] = {}


def finite(value: float, what: str) -> float:
    """The value.

    Raises: PacketError, which calls it ``what``, when it is not finite.
    """
    if not math.isfinite(value):
        raise PacketError(f"{what} is {value}; expected a finite number")
    return value
