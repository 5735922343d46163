"""Sources: cameras, trackers, microphones and files, as poses over time."""

from __future__ import annotations

from collections.abc import Sequence

from thadistill.drive.sources.base import SOURCES, Source, SourceOptions, TimedPose
from thadistill.drive.sources.file import File
from thadistill.drive.sources.merged import Merged
from thadistill.drive.sources.microphone import Microphone
from thadistill.drive.sources.network import PORTS, Network
from thadistill.drive.sources.webcam import Webcam
from thadistill.errors import UserError

__all__ = ["SOURCES", "Source", "SourceOptions", "TimedPose", "open_source"]


def open_source(source: str | Sequence[str], options: SourceOptions | None = None) -> Source:
    """A source by its name of SOURCES, or several merged: of those that drive a parameter, the last named sets it.

    Raises: UserError for an unknown name, or an option that a source misses; opening it as a context tells the rest.
    """
    options = options or SourceOptions()
    names = [source] if isinstance(source, str) else list(source)
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise UserError(f"source={','.join(names)}; expected one or more of {', '.join(SOURCES)}")
    if len(names) > 1 and len({*names} & PORTS.keys()) > 1 and options.port is not None:
        raise UserError(f"source={','.join(names)} with one port; expected each at its own: leave the port out")
    opened = [_open(name, options) for name in dict.fromkeys(names)]
    return opened[0] if len(opened) == 1 else Merged(opened)


def _open(name: str, options: SourceOptions) -> Source:
    if name == "webcam":
        return Webcam(options)
    if name in PORTS:
        return Network(name, options)
    if name == "audio":
        return Microphone(options) if options.path is None else File(options, name)
    return File(options)
