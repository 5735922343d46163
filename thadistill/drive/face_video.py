"""Face video: a video file of a face to tracked faces over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from thadistill.drive.face_tracker import FaceTracker
from thadistill.drive.protocols import Face
from thadistill.drive.sound import import_av
from thadistill.errors import UserError

_LARGEST = 640  # pixels of an image's longer side; the tracker scales faces down further


def faces_in_video(
    path: Path, tracker: FaceTracker, wanted: Callable[[float], bool] = lambda seconds: True
) -> Iterator[tuple[float, Face | None]]:
    """The face in each image: seconds from the video's beginning, and None where no face is seen.

    Args:
        wanted: whether to track the image of a time; the others are passed over.

    Raises: UserError when PyAV is missing, or the file is no video.
    """
    for seconds, image in images_of(str(path), {}, None):
        if wanted(seconds):
            yield seconds, tracker.find(image, seconds)


def images_of(name: str, options: dict[str, str], format: str | None) -> Iterator[tuple[float, Any]]:
    """Images of a video file or a camera, RGB, the right way up: seconds from the first, and the pixels.

    Args:
        name, options, format: as PyAV opens them; ``format`` None is a file.

    Raises: UserError when PyAV is missing, or nothing opens under that name.
    """
    av = import_av("videos are read")
    try:
        with av.open(name, format=format, options=options) as container:
            if not container.streams.video:
                raise UserError(f"{name} has no images; expected a video of a face")
            stream = container.streams.video[0]
            if format is None:  # threads by frame hold images back
                stream.thread_type = "AUTO"
            first = None
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                first = frame.time if first is None else first
                scale = min(1.0, _LARGEST / max(frame.width, frame.height))
                size = {"width": max(2, round(scale * frame.width)), "height": max(2, round(scale * frame.height))}
                image = frame.to_ndarray(format="rgb24", **size)
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # phones film sideways and say so
                if turns:
                    image = np.ascontiguousarray(np.rot90(image, turns))
                yield float(frame.time - first), image
    except av.FFmpegError as error:
        raise UserError(f"{name} cannot be read as a video ({error.strerror}); expected a video of a face") from None
