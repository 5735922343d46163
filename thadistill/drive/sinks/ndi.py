"""NDI sink: frames of a live character, with their transparency, to programs on the local network such as OBS."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from thadistill.drive.handle import HandleContext
from thadistill.drive.sinks.base import Shown
from thadistill.drive.video import laid_on, opaque
from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE

NAME = "thadistill"  # what the source is called in the network


class NdiSink(HandleContext):
    """An NDI source, by cyndilib, which brings the NDI runtime (free of charge, not free software).

    Args:
        fps: frames a second that the source announces.
        background: RGB of one pixel or of the frame's size; None keeps the frames' transparency.

    Raises: UserError, when opened, where cyndilib is not installed.
    """

    takes_frames = True

    def __init__(self, fps: float, background: np.ndarray | None = None) -> None:
        self.name = "NDI"
        self.fps = fps
        self._background = background
        self._handle: Any = None

    def __enter__(self) -> NdiSink:
        try:
            from cyndilib.sender import Sender
            from cyndilib.video_frame import VideoSendFrame
            from cyndilib.wrapper.ndi_structs import FourCC
        except ImportError:
            raise UserError("NDI needs cyndilib, which is not installed: pip install 'thadistill[ndi]'") from None
        frame = VideoSendFrame()
        frame.set_resolution(IMAGE_SIZE, IMAGE_SIZE)
        frame.set_frame_rate(Fraction(self.fps).limit_denominator(1001))
        frame.set_fourcc(FourCC.RGBA)
        self._handle = Sender(NAME, clock_video=False, clock_audio=False)  # the player keeps time
        self._handle.set_video_frame(frame)
        self._handle.open()
        return self

    def take(self, shown: Shown) -> None:
        """Sends a frame."""
        assert shown.frame is not None
        frame = shown.frame
        if self._background is not None:
            frame = opaque(laid_on(frame, self._background))
        self._handle.write_video(np.ascontiguousarray(frame).ravel())

    def tell(self, source: str, state: str) -> None:
        pass

    def status(self) -> str:
        watching = self._handle.get_num_connections(0) if self._handle is not None else 0
        return f"{watching} watching"
