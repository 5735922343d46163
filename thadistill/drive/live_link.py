"""Live Link Face: the CSV that Epic's iOS app writes of a take, to tracked faces over time."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from thadistill.drive.names import BLENDSHAPES, arkit_name
from thadistill.drive.protocols import Face
from thadistill.errors import UserError

_HEAD: Final = ("HeadPitch", "HeadYaw", "HeadRoll")  # radians
_TIMECODE: Final = "Timecode"  # hours:minutes:seconds:frame.part, at 60 frames a second
_FPS = 60.0


def is_live_link(path: Path) -> bool:
    """Whether a CSV's first line names blendshapes."""
    with path.open("rb") as file:
        names = file.readline(8192).decode(errors="replace").strip().split(",")
    return sum(arkit_name(name) is not None for name in names) > len(BLENDSHAPES) // 2


def read_live_link(path: Path) -> Iterator[tuple[float, Face]]:
    """The faces of a take, with their seconds; blank rows are those where the app lost the face.

    Raises: UserError for a row that does not read.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(_rows(file, path), 2):
            try:
                shapes = {name: float(value) for name, value in row.items() if name and arkit_name(name) and value}
                # pitch down, to the person's left, and left side up are positive, as for a right-handed head
                head = tuple(math.degrees(float(row[name])) for name in _HEAD) if row.get(_HEAD[0]) else None
                hours, minutes, seconds, frame = (float(part) for part in row[_TIMECODE].split(":"))
                time = 3600 * hours + 60 * minutes + seconds + frame / _FPS
                if not math.isfinite(time):
                    raise ValueError(f"{_TIMECODE} {row[_TIMECODE]}")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{path} line {number} does not read ({error}); expected a take of Live Link Face"
                ) from None
            if shapes:
                yield time, Face(shapes, head)


def _rows(file: TextIO, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(file)
    except csv.Error as error:
        raise UserError(f"{path} cannot be read ({error}); expected a take of Live Link Face") from None
