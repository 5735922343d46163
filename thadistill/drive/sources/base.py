"""Source: where poses come from while a character is driven live; read by the live pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from thadistill.console import console
from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.protocols import Face
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

SOURCES: Final = ("webcam", "ifacialmocap", "vmc", "openseeface", "audio", "file")
LOOPBACK: Final = "127.0.0.1"
WAIT_S: Final = 0.1  # a source that has nothing new says so after this long
_MOST_COMPLAINTS = 8


class TimedPose(NamedTuple):
    """A pose and when what it was made from arrived, in seconds of ``time.monotonic()``."""

    pose: Float[Tensor, " 45"]
    time: float


@runtime_checkable
class Source(Protocol):
    """Where poses come from. Opened as a context; read from one thread.

    ``name`` is what messages call it; ``drives`` are the pose parameters that it sets, the others are at rest in its
    poses.
    """

    name: str
    drives: frozenset[str]

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def poses(self) -> Iterator[TimedPose | None]:
        """Poses as they come; None when nothing new came within WAIT_S (silence, or the face is lost).

        Ends when a file ends. What comes back after it was gone (a camera, a sender) is read on by itself.
        """
        ...


@dataclass(frozen=True)
class SourceOptions:
    """Options of all sources; each reads those that concern it.

    Args:
        mapper: what turns blendshapes into poses.
        host: the address that network sources listen on.
        port: the port there; None is the protocol's own.
        phone: the address of a phone that iFacialMocap is to be asked to send from; None waits for what comes.
        camera: number or path of the camera.
        microphone: number or name of an input; None is the system's default.
        path: the file of ``file`` and ``audio``; ``audio`` without one listens to the microphone.
        calibrate_s: the head's mean direction over this long from the first face on counts as straight ahead; 0: the
            mapper's own.
        poses_fps: poses a second, where a file does not say.
        loop: begin a file again at its end.
        mirror: whether a camera's face moves the character as a mirror image does.
    """

    mapper: BlendshapeMapper = field(default_factory=BlendshapeMapper)
    host: str = LOOPBACK
    port: int | None = None
    phone: str | None = None
    camera: int | str = 0
    microphone: int | str | None = None
    path: str | None = None
    calibrate_s: float = 0.0
    poses_fps: float = 20.0
    loop: bool = False
    mirror: bool = True


class FaceMapping:
    """Tracked faces of one source to poses: mapped, calibrated; what cannot be mapped is held, and said once."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name, self.mapper = name, options.mapper
        self._calibrate_s = options.calibrate_s
        self._heads: list[tuple[float, float, float]] = []
        self._began: float | None = None
        self._said: set[str] = set()

    def pose(self, face: Face, seconds: float | None = None) -> Float[Tensor, " 45"] | None:
        """The pose, None for a face that cannot be mapped.

        Args:
            seconds: when the face was seen, where that is not now.
        """
        try:
            if self._calibrate_s > 0 and face.head is not None:
                self._calibrate(face.head, time.monotonic() if seconds is None else seconds)
            pose = self.mapper(face.blendshapes, face.head)
        except UserError as error:
            self.complain(error)
            return None
        for name, value in face.pose.items():
            pose[POSE_PARAMETERS.index(name)] = value
        return pose

    def complain(self, error: UserError) -> None:
        """Says a kind of error once, however often it comes."""
        kind = str(error).split(";")[-1]
        if kind not in self._said and len(self._said) < _MOST_COMPLAINTS:
            self._said.add(kind)
            console.print(f"{self.name}: {error}", soft_wrap=True)

    def _calibrate(self, head: Any, now: float) -> None:
        self._began = now if self._began is None else self._began
        if now - self._began > self._calibrate_s and self._heads:
            self._calibrate_s = 0.0
            return
        self._heads.append(self.mapper.angles(head))
        self.mapper = self.mapper.calibrated(self._heads)
