"""Sinks: browser, virtual camera, video file, pipe and avatar programs, for a character that is driven live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thadistill.drive.protocols.vmc import PORT
from thadistill.drive.sinks.base import Shown, Sink
from thadistill.drive.sinks.file import FileSink
from thadistill.drive.sinks.ndi import NdiSink
from thadistill.drive.sinks.virtual_camera import VirtualCamera
from thadistill.drive.sinks.vmc import VmcSink
from thadistill.drive.video import FORMATS, read_background
from thadistill.errors import UserError
from thadistill.export.web import Exported
from thadistill.images import IMAGE_SIZE

__all__ = ["SINKS", "Shown", "Sink", "SinkOptions", "open_sink"]

SINKS = ("browser", "virtualcam", "ndi", "vmc", "stdout")
_LIVE_FPS, _VIDEO_FPS = 60.0, 30.0


@dataclass(frozen=True)
class SinkOptions:
    """Options of all sinks; each reads those that concern it.

    Args:
        fps: frames or poses a second, at most; None is 60 for the browser and VMC, else 30.
        background: what frames are laid on: RRGGBB, a picture's path, transparent; None is transparent where the sink
            has alpha, else white.
        students: what the browser shows; the first one first.
        host, port: where the browser's page is served; port 0 is any free one.
        open: open that page in the user's browser.
        to: address and port of the program that receives VMC.
    """

    fps: float | None = None
    background: str | None = None
    students: Sequence[Exported] = ()
    host: str = "127.0.0.1"
    port: int = 8420
    open: bool = False
    to: str = f"127.0.0.1:{PORT}"


def open_sink(sink: str, options: SinkOptions | None = None) -> Sink:
    """A sink by its name of SINKS, or a file by its path, see :func:`thadistill.drive.open_video`.

    Raises: UserError for a sink that is unknown, or options that it cannot follow.
    """
    given = options or SinkOptions()
    if sink in ("browser", "vmc"):
        fps = given.fps or _LIVE_FPS
        if sink == "vmc":
            host, port = _split(given.to)
            return VmcSink(host, port, fps)
        if not given.students:
            raise UserError("sink=browser was given no student; expected one to show at least: give model=")
        from thadistill.drive.sinks.browser import BrowserSink  # aiohttp is not needed by the others

        return BrowserSink(given.students, given.host, given.port, given.open, fps)
    fps = given.fps or _VIDEO_FPS
    plain = None if given.background == "transparent" else given.background
    background = read_background(plain, IMAGE_SIZE, IMAGE_SIZE)
    if sink == "virtualcam":
        return VirtualCamera(fps, background)
    if sink == "ndi":
        return NdiSink(fps, background)
    if sink != "stdout" and "." not in sink:
        raise UserError(
            f"sink={sink}; expected one of {', '.join(SINKS)}, or a file's name that ends in {', '.join(FORMATS)}"
        )
    return FileSink("-" if sink == "stdout" else sink, fps, background)


def _split(to: str) -> tuple[str, int]:
    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= 65535:
        raise UserError(f"to={to}; expected an address and a port, such as 127.0.0.1:{PORT}")
    return host.strip("[]"), int(port)
