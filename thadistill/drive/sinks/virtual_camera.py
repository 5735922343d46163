"""Virtual camera: frames of a live character as a camera that video calls and OBS can choose."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from thadistill.drive.handle import HandleContext
from thadistill.drive.sinks.base import Shown
from thadistill.drive.video import laid_on
from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE

_RETRY_S = 2.0  # between tries to open a camera that has gone
_MAKE_ONE = {
    "linux": "run 'sudo modprobe v4l2loopback exclusive_caps=1 card_label=thadistill' (Debian: package v4l2loopback-dkms)",
    "win32": "install OBS Studio, and end a virtual camera that it has started itself",
    "darwin": "install OBS Studio, start its virtual camera once, and end it again",
}


class VirtualCamera(HandleContext):
    """The first virtual camera of this machine, by pyvirtualcam. One that goes away is opened again when it is back.

    Args:
        fps: frames a second that the camera announces.
        background: RGB of one pixel or of the frame's size; cameras have no transparency. None is white.
    """

    takes_frames = True

    def __init__(self, fps: float, background: np.ndarray | None = None) -> None:
        self.name = "virtual camera"
        self.fps = fps
        self._background = np.full(3, 255, np.uint8) if background is None else background
        self._handle: Any = None
        self._tried = 0.0

    def __enter__(self) -> VirtualCamera:
        self._open()
        return self

    def take(self, shown: Shown) -> None:
        """Sends a frame."""
        assert shown.frame is not None
        try:
            if self._handle is None:
                if time.monotonic() - self._tried < _RETRY_S:
                    return
                self._open()
            self._handle.send(np.ascontiguousarray(laid_on(shown.frame, self._background)))
        except (RuntimeError, OSError, UserError):
            self._close()

    def tell(self, source: str, state: str) -> None:
        pass

    def status(self) -> str:
        return "gone, tried again" if self._handle is None else str(self._handle.device)

    def _open(self) -> None:
        try:
            import pyvirtualcam
        except ImportError:
            raise UserError(
                "virtual cameras need pyvirtualcam, which is not installed: pip install 'thadistill[drive]'"
            ) from None
        self._tried = time.monotonic()
        try:
            self._handle = pyvirtualcam.Camera(width=IMAGE_SIZE, height=IMAGE_SIZE, fps=self.fps)
        except RuntimeError as error:
            todo = _MAKE_ONE.get(sys.platform, "install one")
            reason = str(error).split(". ")[0]
            raise UserError(f"no virtual camera can be opened ({reason}); expected one: {todo}") from None
