"""File sink: frames of a live character to a video file, pictures, or raw to standard output."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

import numpy as np

from thadistill.drive.sinks.base import Shown
from thadistill.drive.video import FrameWriter, open_video


class FileSink:
    """A file that is finished whatever ends the performance; at moments without a frame the one before stays.

    Args:
        out: as :func:`thadistill.drive.open_video` takes it.
        fps: frames a second of the file.
        background: see there.
    """

    takes_frames = True

    def __init__(self, out: str | Path, fps: float, background: np.ndarray | None = None) -> None:
        self.name = "standard output" if str(out) == "-" else str(out)
        self.fps = fps
        self._opened = open_video(out, fps, background)
        self._stack = contextlib.ExitStack()
        self._video: FrameWriter | None = None
        self._began = 0.0
        self._last = -1  # the number of the last frame written
        self._failed: BaseException | None = None

    def __enter__(self) -> FileSink:
        self._video = self._stack.enter_context(self._opened)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._failed is not None:
            # the file is broken: its temporary one is removed
            self._stack.__exit__(type(self._failed), self._failed, None)
        elif self._last < 0 and error is not None:
            self._stack.__exit__(kind, error, trace)
        else:
            self._stack.close()

    def take(self, shown: Shown) -> None:
        """Writes a frame at its moment; one that comes within the last one's is left out."""
        assert self._video is not None
        assert shown.frame is not None
        if self._last < 0:
            self._began = shown.time
        number = round((shown.time - self._began) * self.fps)
        if number <= self._last:
            return
        try:
            self._video.write(shown.frame, number)
        except BaseException as error:
            self._failed = error
            raise
        self._last = number

    def tell(self, source: str, state: str) -> None:
        pass

    def status(self) -> str:
        return f"{max(0, self._last + 1) / self.fps:.1f} s"
