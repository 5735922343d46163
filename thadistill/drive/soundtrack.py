"""Soundtrack: the sound of one file into a video that is being written, kept in step with its frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from thadistill.drive.sound import import_av
from thadistill.errors import UserError

CODECS: Final = {".mp4": "aac", ".mov": "aac", ".webm": "libopus"}  # by the video's ending; other formats have no sound

_RATE = 48000
_BITS_PER_SECOND = 160_000


def has_sound(path: Path) -> bool:
    """Whether a file has sound; what PyAV cannot open has none."""
    av = import_av("sound is read")
    try:
        with av.open(str(path)) as container:
            return bool(container.streams.audio)
    except (av.FFmpegError, OSError):
        return False


class Soundtrack:
    """Sound on its way from a file to a video.

    Args:
        path: the file; where it is a video too, its sound stays as it was to its images: later, or cut where it began before
            them.
        container: the video, before its first packet.
        codec: of CODECS.
    """

    def __init__(self, path: Path, container: Any, codec: str) -> None:
        av = import_av("sound is read")
        self._container, self._error = container, av.FFmpegError
        self._path = path
        self._stream = container.add_stream(codec, rate=_RATE, layout="stereo")
        self._stream.bit_rate = _BITS_PER_SECOND
        self._stream.codec_context.open()
        context = self._stream.codec_context
        self._resampler = av.AudioResampler(context.format, "stereo", _RATE, context.frame_size or None)
        try:
            self._input = av.open(str(path))
        except self._error as error:
            raise UserError(f"{path} cannot be read as sound ({error.strerror}); expected a recording") from None
        self._frames = self._read()
        self._next: Any = next(self._frames, None)

    def until(self, seconds: float) -> None:
        """Writes the sound up to a time in the video.

        Raises: UserError when it cannot be read.
        """
        try:
            while self._next is not None and self._next.pts < seconds * _RATE:
                self._container.mux(self._stream.encode(self._next))
                self._next = next(self._frames, None)
        except self._error as error:
            raise UserError(
                f"the sound of {self._path} cannot be read ({error.strerror}); expected a whole file"
            ) from None

    def finish(self) -> None:
        """Writes what the encoder holds back."""
        self._container.mux(self._stream.encode(None))
        self._input.close()

    def _read(self) -> Iterator[Any]:
        count: int | None = None
        images = self._input.streams.video
        began = float((images[0].start_time or 0) * images[0].time_base) if images else None
        for frame in itertools.chain(self._input.decode(audio=0), [None]):
            if count is None and frame is not None:
                late = 0.0 if began is None or frame.time is None else frame.time - began
                count = round(late * _RATE)
            for piece in self._resampler.resample(frame):
                piece.pts = count
                count = (count or 0) + piece.samples
                # the rest was before the images; less than a piece of what was not is lost
                if piece.pts is None or piece.pts >= 0:
                    yield piece
