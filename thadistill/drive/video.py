"""Video: frames to a file, one at a time, by PyAV; the ending of its name says the format."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from thadistill.drive.soundtrack import CODECS, Soundtrack
from thadistill.errors import UserError
from thadistill.files import replacing, write_bytes
from thadistill.images.picture import read_picture

RGBA = UInt8[np.ndarray, "h w 4"]
_MOST_REPEATED = 30  # frames of raw output


class Format(NamedTuple):
    """A kind of video file: container, encoder, pixel format, the encoder's options, and whether it keeps alpha."""

    container: str
    codec: str
    pixels: str
    options: dict[str, str]
    alpha: bool


FORMATS = {
    ".mp4": Format("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "veryfast", "threads": "1"}, False),
    ".webm": Format(
        "webm", "libvpx-vp9", "yuva420p", {"crf": "18", "b": "0", "deadline": "realtime", "cpu-used": "6"}, True
    ),
    ".mov": Format("mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, True),
    ".gif": Format("gif", "gif", "pal8", {}, True),
    ".apng": Format("apng", "apng", "rgba", {}, True),
}


@runtime_checkable
class FrameWriter(Protocol):
    """Takes frames in order.

    ``number`` counts them from 0; where a live character left some out, the frame before stays for as long.
    """

    def write(self, frame: RGBA, number: int | None = None) -> None: ...


@contextlib.contextmanager
def open_video(
    out: str | Path, fps: float, background: np.ndarray | None = None, sound: Path | None = None
) -> Iterator[FrameWriter]:
    """A file that takes frames; it appears under its name, whole, once the block has ended without an error.

    Args:
        out: ends in .mp4 (H.264), .webm (VP9), .mov (ProRes 4444), .gif or .apng; with a ``%`` pattern in its name
            (``frame-%05d.png``) a PNG per frame; ``-`` writes raw RGBA to standard output.
        fps: frames a second.
        background: what frames are laid on, RGB of one pixel or of the frame's size; None keeps their alpha where the
            format has it, and lays them on white where it has not.
        sound: a file whose sound goes into a .mp4, .mov or .webm; it ends with the frames. Other formats have none.

    Raises: UserError when the format is unknown, PyAV is missing, or the file cannot be written.
    """
    if str(out) == "-":
        yield _Raw(sys.stdout.buffer, background)
        return
    path = Path(out)
    suffix = path.suffix.lower()
    if suffix == ".png":
        if not re.fullmatch(r"(?:[^%]|%%)*%0?\d*d(?:[^%]|%%)*", path.name):
            raise UserError(
                f"out={out}; expected one pattern for PNG pictures, such as frame-%05d.png, or an ending .apng"
            )
        yield _Pictures(path, background)
        return
    if suffix not in FORMATS:
        raise UserError(
            f"out={out}; expected an ending of {', '.join(FORMATS)}, a pattern such as frame-%05d.png, or -"
        )
    try:
        import av
    except ImportError:
        raise UserError("videos are written by PyAV, which is not installed: pip install 'thadistill[drive]'") from None
    if path.is_dir():
        raise UserError(f"out={out} is a folder; expected a file's name")
    format = FORMATS[suffix]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, av.open(str(temporary), "w", format=format.container) as container:
            carried = (sound, CODECS[suffix]) if sound is not None and suffix in CODECS else None
            video = _Video(container, format, fps, background, carried)
            yield video
            video.finish()
    except (av.FFmpegError, FileExistsError, NotADirectoryError, PermissionError) as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written ({reason}); expected a writable folder with room") from None


def laid_on(frame: RGBA, background: UInt8[np.ndarray, "*place 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Straight RGBA over a background, in sRGB as browsers and video programs do."""
    alpha = frame[..., 3:].astype(np.uint16)
    mixed = frame[..., :3] * alpha
    mixed += background * (255 - alpha)
    mixed += 127  # 255 * 255 + 127 still fits 16 bits
    mixed //= 255
    return mixed.astype(np.uint8)


def opaque(rgb: UInt8[np.ndarray, "h w 3"]) -> RGBA:
    """RGB as RGBA that hides all behind it."""
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


class _Video:
    """A video file being written."""

    def __init__(
        self,
        container: Any,
        format: Format,
        fps: float,
        background: np.ndarray | None,
        sound: tuple[Path, str] | None = None,
    ) -> None:
        self.container, self.format, self.fps = container, format, Fraction(fps).limit_denominator(1001)
        self.background = _white() if background is None and not format.alpha else background
        self.stream: Any = None
        self.graph: Any = None
        self.sound = sound
        self.soundtrack: Soundtrack | None = None
        self.count = 0

    def write(self, frame: RGBA, number: int | None = None) -> None:
        """Encodes a frame."""
        import av

        alpha = self.background is None
        pixels = frame if self.background is None else laid_on(frame, self.background)
        if self.stream is None:
            self._open(pixels.shape[1], pixels.shape[0], alpha)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgba" if alpha else "rgb24")
        picture.pts, picture.time_base = self.count if number is None else number, 1 / self.fps
        self.count = picture.pts + 1
        if self.soundtrack is not None:
            self.soundtrack.until(float(self.count / self.fps))
        if self.graph is not None:
            self.graph.push(picture)
            self._drain()
        else:
            self.container.mux(self.stream.encode(picture))

    def finish(self) -> None:
        """Encodes what is still held back."""
        if self.stream is None:
            raise UserError("a video of no frames; expected one at least")
        if self.graph is not None:
            self.graph.push(None)
            self._drain()
        self.container.mux(self.stream.encode(None))
        if self.soundtrack is not None:
            self.soundtrack.finish()

    def _open(self, width: int, height: int, alpha: bool) -> None:
        import av

        name, pixels = self.format.codec, self.format.pixels
        if not alpha and self.format.alpha:
            pixels = {"yuva420p": "yuv420p", "yuva444p10le": "yuv444p10le", "rgba": "rgb24"}.get(pixels, pixels)
        self.stream = self.container.add_stream(name, rate=self.fps, options=dict(self.format.options))
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, pixels
        if self.sound is not None:
            self.soundtrack = Soundtrack(self.sound[0], self.container, self.sound[1])
        if name != "gif":
            return
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("rgba" if alpha else "rgb24"), time_base=1 / self.fps
        )
        split = self.graph.add("split")
        palette = self.graph.add("palettegen", "stats_mode=single:reserve_transparent=1")
        use = self.graph.add("paletteuse", "new=1:alpha_threshold=128")
        sink = self.graph.add("buffersink")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        self.graph.configure()

    def _drain(self) -> None:
        import av

        while True:
            try:
                frame = self.graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self.container.mux(self.stream.encode(frame))


class _Pictures:
    """A PNG per frame, numbered from 1."""

    def __init__(self, pattern: Path, background: np.ndarray | None) -> None:
        self.pattern, self.background, self.count = pattern, background, 0
        self.last: Path | None = None

    def write(self, frame: RGBA, number: int | None = None) -> None:
        while number is not None and self.last is not None and self.count < number:
            write_bytes(self._next(), self.last.read_bytes())
        self.last = self._next()
        pixels = frame if self.background is None else laid_on(frame, self.background)
        with replacing(self.last) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)

    def _next(self) -> Path:
        self.count += 1
        return self.pattern.with_name(self.pattern.name % self.count)


class _Raw:
    """Raw RGBA, for a program that reads it from a pipe."""

    def __init__(self, to: BinaryIO, background: np.ndarray | None) -> None:
        self.to, self.background = to, background
        self.count = 0
        self.last = b""

    def write(self, frame: RGBA, number: int | None = None) -> None:
        if self.background is not None:
            frame = opaque(laid_on(frame, self.background))
        content = np.ascontiguousarray(frame).tobytes()
        try:
            # a reader that was slow for longer than this gets no more old frames
            missed = 0 if number is None else min(number - self.count, _MOST_REPEATED)
            for _ in range(missed):
                self.to.write(self.last)
            self.to.write(content)
            self.to.flush()
            self.count = self.count + 1 if number is None else number + 1
            self.last = content
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.to.fileno())  # nothing more is flushed into it at exit
            raise UserError("the program that reads the frames has ended") from None


def _white() -> UInt8[np.ndarray, "3"]:
    return np.full(3, 255, np.uint8)


def read_background(given: str | None, width: int, height: int) -> np.ndarray | None:
    """``RRGGBB``, a picture's path (scaled to cover the frame), ``transparent`` or None, as :func:`open_video` takes it.

    Raises: UserError for anything else.
    """
    if given is None:
        return None
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", given):
        return np.frombuffer(bytes.fromhex(given.lstrip("#")), np.uint8)
    if not Path(given).is_file():
        raise UserError(f"background={given}; expected transparent, RRGGBB, or a picture's path")
    picture = read_picture(given).image.convert("RGB")
    scale = max(width / picture.width, height / picture.height)
    size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS).crop((left, top, left + width, top + height)))
