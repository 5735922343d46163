"""Sink: where a character that is driven live is shown; fed by the live player."""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor


class Shown(NamedTuple):
    """A pose of the moment.

    ``frame``: straight sRGB RGBA, None for a sink that takes none. ``time``: of the pose, in seconds of
    ``time.monotonic()``. ``arrived``: when what the pose was made from arrived; None when the source had nothing new.
    """

    pose: Float[Tensor, " 45"]
    frame: UInt8[np.ndarray, "h w 4"] | None
    time: float
    arrived: float | None


@runtime_checkable
class Sink(Protocol):
    """Where frames or poses go. Opened as a context; ``take`` is called from one thread, with the newest only.

    ``name`` is what messages call it; ``takes_frames`` whether it needs frames, or poses alone; ``fps`` the rate it
    wants.
    """

    name: str
    takes_frames: bool
    fps: float

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, shown: Shown) -> None:
        """Shows it. Raises: UserError when nothing more can be shown."""
        ...

    def tell(self, source: str, state: str) -> None:
        """Hears what drives the character, and how that goes."""
        ...

    def status(self) -> str:
        """A few words about those who watch, or nothing."""
        ...
