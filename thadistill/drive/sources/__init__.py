"""Sources: cameras, trackers, microphones and files, as poses over time."""

from __future__ import annotations

from collections.abc import Sequence

from thadistill.drive.sources.base import SOURCES, Source, SourceOptions, TimedPose
from thadistill.errors import UserError

__all__ = ["SOURCES", "Source", "SourceOptions", "TimedPose", "open_source"]


def open_source(source: str | Sequence[str], options: SourceOptions) -> Source:
    """A source by its name of SOURCES, or several merged: the first that drives a parameter sets it... sound the mouth.

    Raises: UserError for an unknown name, an option that a source misses, a package that is not installed.
    """
    raise UserError(f"source={source}; expected one of {', '.join(SOURCES)}")
