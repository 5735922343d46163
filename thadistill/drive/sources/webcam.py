"""Webcam source: a camera's face, by PyAV and MediaPipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from thadistill.drive.face_tracker import FaceTracker
from thadistill.drive.face_video import images_of
from thadistill.drive.motion import FACE, mirrored
from thadistill.drive.sources.base import WAIT_S, FaceMapping, SourceOptions, TimedPose
from thadistill.errors import UserError

_AGAIN_S: Final = 1.0  # between tries to open a camera that is gone
_FIRST_S: Final = 10.0  # for the first image
_SIZES: Final[tuple[dict[str, str], ...]] = (
    {"video_size": "640x480", "framerate": "30"},
    {"video_size": "640x480"},
    {},
)  # what cameras are asked for, in turn


def camera_address(camera: int | str) -> tuple[str, str | None]:
    """What PyAV opens for a camera's number or name on this system, and in which format; a path is taken as a video."""
    if isinstance(camera, int):
        if sys.platform == "win32":
            raise UserError(f"camera={camera}; expected the camera's name on Windows, as its settings show it")
        return (str(camera), "avfoundation") if sys.platform == "darwin" else (f"/dev/video{camera}", "v4l2")
    if camera.startswith("/dev/"):
        return camera, "v4l2"
    named = {"darwin": (camera, "avfoundation"), "win32": (f"video={camera}", "dshow")}
    return named.get(sys.platform, (camera, None))


class Webcam:
    """A camera's face; the newest image counts, older ones are passed over while one is tracked.

    A camera that is pulled out is looked for once a second, and used again when it is back.

    Args:
        options: ``camera``, ``mirror``, and what maps faces.
    """

    name = "webcam"
    drives = FACE

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self._address = camera_address(options.camera)
        self._mapping = FaceMapping(self.name, options)
        self._newest: tuple[float, Any] | None = None
        self._new = threading.Condition()
        self._stop = threading.Event()
        self._failed: UserError | None = None
        self._seen = False

    def __enter__(self) -> Webcam:
        """Opens the tracker and the camera, and waits for its first image.

        Raises: UserError when either is missing or in use.
        """
        self._stop.clear()  # it may have been open before
        self._newest, self._failed, self._seen = None, None, False
        self._tracker = FaceTracker()
        self._thread = threading.Thread(target=self._capture, name="webcam", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _FIRST_S
        while not self._seen:
            if self._failed is not None or time.monotonic() > deadline:
                failed = self._failed or UserError(
                    f"camera={self.options.camera} gives no image; expected one: check that no other program uses it"
                )
                self.__exit__(None, None, None)
                raise failed
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        self._tracker.__exit__(None, None, None)

    def poses(self) -> Iterator[TimedPose | None]:
        """See Source."""
        while not self._stop.is_set():
            with self._new:
                if self._newest is None:
                    self._new.wait(WAIT_S)
                newest, self._newest = self._newest, None
            face = None if newest is None else self._tracker.find(newest[1], newest[0])
            pose = None if face is None else self._mapping.pose(face)
            if newest is None or pose is None:
                yield None
            else:
                yield TimedPose(mirrored(pose) if self.options.mirror else pose, newest[0])

    def _capture(self) -> None:
        name, form = self._address
        while not self._stop.is_set():
            for asked in _SIZES:
                try:
                    for _, image in images_of(name, dict(asked), form):
                        if self._stop.is_set():
                            return
                        with self._new:
                            self._newest, self._seen = (time.monotonic(), image), True
                            self._new.notify()
                except UserError as error:
                    self._failed = UserError(f"camera={self.options.camera}: {error}")
                except OSError as error:
                    self._failed = UserError(
                        f"camera={self.options.camera} cannot be read ({error}); expected a camera"
                    )
                if self._seen:
                    break
            if not self._seen:
                self._failed = self._failed or UserError(
                    f"camera={self.options.camera} gives no image; expected a camera"
                )
                return
            self._stop.wait(_AGAIN_S)
