"""Source: where poses come from while a character is driven live; read by the live pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.pose import POSE_PARAMETERS

SOURCES: Final = ("webcam", "ifacialmocap", "vmc", "openseeface", "audio", "file")
LOOPBACK: Final = "127.0.0.1"
WAIT_S: Final = 0.1  # a source that has nothing new says so after this long

ALL: Final = frozenset(POSE_PARAMETERS)
FACE: Final = ALL - {"breathing"}
VOWELS: Final = frozenset(f"mouth_{vowel}" for vowel in ("aaa", "iii", "uuu", "eee", "ooo"))


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
    """What sources can be told; each reads what concerns it.

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
