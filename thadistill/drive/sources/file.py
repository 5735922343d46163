"""File source: a track, a capture, a video of a face or sound, played at its own pace, once or in a loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import torch

from thadistill.drive.face_tracker import FaceTracker
from thadistill.drive.face_video import faces_in_video
from thadistill.drive.motion import FACE, mirrored
from thadistill.drive.sources.base import WAIT_S, FaceMapping, SourceOptions, TimedPose
from thadistill.drive.track import VIDEO, read_track
from thadistill.errors import UserError

_FPS: Final = 60.0  # of tracks, between whose poses it interpolates


class File:
    """Poses of a file, each at its time; a video's faces are tracked as they are shown, late ones passed over.

    Args:
        options: ``path``, ``poses_fps``, ``loop``, and what maps faces.
        name: what messages call it.

    Raises: UserError when the file is missing or cannot be read; nothing is read of a video yet.
    """

    def __init__(self, options: SourceOptions, name: str = "file") -> None:
        if options.path is None:
            raise UserError(f"source={name} without a file; expected path=FILE")
        self.name, self.options = name, options
        self.path = Path(options.path)
        suffix = self.path.suffix.lower()
        self._is_video = suffix in VIDEO
        if not self.path.is_file():
            raise UserError(f"{self.path} does not exist; expected a file: check path=")
        self._open = False
        self._track = None if self._is_video else read_track(self.path, options.poses_fps, options.mapper)
        self.drives = FACE if self._track is None else self._track.drives

    def __enter__(self) -> File:
        self._mapping = FaceMapping(self.name, self.options)
        self._tracker = FaceTracker() if self._is_video else None  # refuses here when it is not installed
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._tracker is not None:
            self._tracker.__exit__(None, None, None)
            self._tracker = None

    def poses(self) -> Iterator[TimedPose | None]:
        """See Source."""
        began = time.monotonic()
        while self._open:
            seconds = 0.0
            for seconds, pose in self._once(began):
                yield from _until(began + seconds)
                if not self._open:
                    return
                yield None if pose is None else TimedPose(pose, time.monotonic())
            if not self.options.loop:
                return
            began = max(began + seconds + 1 / _FPS, time.monotonic() - WAIT_S)

    def _once(self, began: float) -> Iterator[tuple[float, torch.Tensor | None]]:
        if self._track is not None:
            for index, pose in enumerate(self._track.at(_FPS)):
                yield index / _FPS, pose
            return
        assert self._tracker is not None
        images = faces_in_video(self.path, self._tracker, lambda at: began + at > time.monotonic() - WAIT_S / 2)
        for seconds, face in images:
            pose = None if face is None else self._mapping.pose(face)
            yield seconds, mirrored(pose) if pose is not None and self.options.mirror else pose


def _until(moment: float) -> Iterator[None]:
    """Nothing new, until a moment."""
    while (left := moment - time.monotonic()) > WAIT_S:
        time.sleep(WAIT_S)
        yield None
    time.sleep(max(0.0, left))
