"""Track: poses over time, read from files of every kind and resampled to any frame rate."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.data.poses import check_poses, load_poses
from thadistill.drive import captures
from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.face_tracker import FaceTracker
from thadistill.drive.face_video import faces_in_video
from thadistill.drive.live_link import is_live_link, read_live_link
from thadistill.drive.motion import ALL, FACE, MOUTH, PoseFilter
from thadistill.drive.protocols import Face
from thadistill.drive.sound import VowelTracker, mouth_pose, read_samples
from thadistill.errors import UserError
from thadistill.files import read_json
from thadistill.pose import POSE_PARAMETERS

POSES = (".npy", ".pt", ".csv", ".json")
SOUND = (".wav", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".flac")
_LEAST_S = 1e-6  # between poses
_LONGEST_S, _MOST_FPS = 86400.0, 1000.0  # what is longer, as by a damaged time, would be resampled into all memory
VIDEO = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".mpg")


@dataclass(frozen=True)
class Track:
    """Poses over time.

    Args:
        poses: the 45 values of each.
        times: seconds from the first, ascending.
        drives: the pose parameters that whoever was recorded moved; the others rest.

    Raises: UserError when times do not ascend, or span more than a day.
    """

    poses: Float[Tensor, "n 45"]
    times: Float[np.ndarray, " n"]
    drives: frozenset[str] = ALL

    def __post_init__(self) -> None:
        if len(self.times) > 1 and not (np.diff(self.times) >= _LEAST_S).all():
            index = int(np.argmin(np.diff(self.times) >= _LEAST_S))
            raise UserError(
                f"time {self.times[index + 1]:g} of pose {index + 1} follows {self.times[index]:g}; expected later"
            )
        if len(self.times) > 1 and not self.seconds <= _LONGEST_S:
            raise UserError(f"a track of {self.seconds:g} seconds; expected {_LONGEST_S:g} at most: cut it")

    def smoothed(self, smoothing: float) -> Track:
        """The track without a tracker's jitter, and without delay: One-Euro filters from both ends, and their mean.

        Args:
            smoothing: 0 (none) to 1 (strong), as :class:`thadistill.drive.motion.PoseFilter` takes it.
        """
        if smoothing == 0:
            return self
        ways = []
        for order in (range(len(self.poses)), range(len(self.poses) - 1, -1, -1)):
            smooth = PoseFilter(smoothing)
            way = {
                row: smooth.next(self.poses[row], abs(float(self.times[row] - self.times[order[0]]))) for row in order
            }
            ways.append(torch.stack([way[row] for row in range(len(way))]))
        return replace(self, poses=(ways[0] + ways[1]) / 2)

    @property
    def seconds(self) -> float:
        """From the first pose to the last."""
        return float(self.times[-1] - self.times[0])

    def at(self, fps: float) -> Float[Tensor, "m 45"]:
        """The poses at ``fps`` frames a second, from the first pose to the last.

        Piecewise cubic, monotone between neighbours (PCHIP), so that no value leaves the range of those around it.
        """
        if len(self.poses) == 1:
            return self.poses
        wanted = self.times[0] + np.arange(math.floor(self.seconds * fps + 1e-6) + 1) / fps
        if len(wanted) == len(self.times) and np.allclose(wanted, self.times, rtol=0, atol=1e-6):
            return self.poses
        # here, as it takes 14 MB, which a track at its own rate does without
        from scipy.interpolate import PchipInterpolator

        values = PchipInterpolator(self.times, self.poses.numpy(), axis=0)(np.minimum(wanted, self.times[-1]))
        return POSE_PARAMETERS.clamp(torch.from_numpy(values).float())


def read_track(path: str | Path, fps: float = 20.0, mapper: BlendshapeMapper | None = None) -> Track:
    """Reads a track.

    Args:
        path: poses: ``.npy``, ``.pt`` or ``.csv`` with a row of 45 values per pose, or ``.json``: a list of poses, or an
            object with ``poses`` and an ``fps`` of its own. A pose there is a list of 45 values, or an object of values by
            name (missing ones rest), with its ``time`` in seconds if it has one: ``{"time": 0.5, "pose": ...}``.
            Or what makes poses: a capture of a tracker (``.jsonl``, ``.pcap``, ``.txt``: :mod:`thadistill.drive.captures`;
            the ``.csv`` of Live Link Face), a video of a face (VIDEO), sound (SOUND, which moves the mouth alone).
        fps: poses a second, where the file does not say.
        mapper: what turns faces into poses; None is the default.

    Raises: UserError when the file is missing, unreadable, or has a pose that is not finite or out of range, or no face.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*POSES, *captures.READ, *SOUND, *VIDEO):
        known = " ".join((*POSES, *captures.READ, *SOUND, *VIDEO))
        raise UserError(f"{path}; expected poses, a capture, a video of a face or sound: {known}")
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a file of poses: check poses=")
    mapper = mapper or BlendshapeMapper()
    if suffix in captures.READ:
        return _of_faces(captures.read_capture(path), mapper, path, begins=False)
    if suffix in VIDEO:
        with FaceTracker() as tracker:
            return _of_faces(faces_in_video(path, tracker), mapper, path, begins=True)
    if suffix in SOUND:
        return _of_sound(path)
    if suffix == ".csv" and is_live_link(path):
        return _of_faces(read_live_link(path), mapper, path, begins=False)
    if suffix != ".json":
        poses = load_poses(path)
        return Track(poses, np.arange(len(poses)) / fps)
    return _of_json(path, fps)


def _of_faces(faces: Iterable[tuple[float, Face | None]], mapper: BlendshapeMapper, path: Path, begins: bool) -> Track:
    """Where no face is seen the last pose is held; ``begins``: the track begins at 0 s, not with the first face."""
    poses: list[Tensor] = []
    times: list[float] = []
    seen = 0
    for seconds, face in faces:
        if times and seconds < times[-1] + _LEAST_S:
            continue  # packets that arrived together
        if face is not None:
            seen += 1
            pose = mapper(face.blendshapes, face.head)
            for name, value in face.pose.items():
                pose[POSE_PARAMETERS.index(name)] = value
        elif begins:
            pose = poses[-1] if poses else POSE_PARAMETERS.rest()[0]
        else:
            continue
        poses.append(pose)
        times.append(seconds)
    if not seen:
        raise UserError(f"{path} shows no face in {len(times)} images; expected one that looks at the camera")
    return Track(torch.stack(poses), np.array(times) - (0.0 if begins else times[0]), FACE)


def _of_sound(path: Path) -> Track:
    tracker = VowelTracker()
    heard = [vowels for piece in read_samples(path) for vowels in tracker.feed(piece)]
    if not heard:
        raise UserError(f"{path} has less than a syllable of sound; expected speech")
    rest = POSE_PARAMETERS.rest()
    poses = torch.cat([rest, *(mouth_pose(vowels)[None] for _, vowels in heard)])
    return Track(poses, np.array([0.0, *(seconds for seconds, _ in heard)]), MOUTH)


def _of_json(path: Path, fps: float) -> Track:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); expected poses") from None
    if isinstance(content, dict) and "poses" in content:
        fps = _number(content.get("fps", fps), path, "fps")
        if not 0 < fps <= _MOST_FPS:
            raise UserError(f"{path}: fps is {fps:g}; expected a number above 0, {_MOST_FPS:g} at most")
        content = content["poses"]
    if isinstance(content, dict):
        content = [content]  # a pose as the player copies it
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} holds no poses; expected a list of them, or an object with poses and fps")
    given = [item["pose"] if isinstance(item, dict) and "pose" in item else item for item in content]
    poses = torch.cat([_pose(item, path, row) for row, item in enumerate(given)])
    timed = [isinstance(item, dict) and "time" in item for item in content]
    if all(timed):
        times = np.array([_number(item["time"], path, f"time of pose {row}") for row, item in enumerate(content)])
    elif any(timed):
        raise UserError(f"{path}: pose {timed.index(False)} has no time, others have; expected all or none")
    else:
        times = np.arange(len(poses)) / fps
    return Track(check_poses(poses, path), times - times[0])


def _number(value: Any, path: Path, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise UserError(f"{path}: {what} is {value!r}; expected a number")
    return float(value)


def _pose(given: Any, path: Path, row: int) -> Float[Tensor, "1 45"]:
    pose = [0.0] * len(POSE_PARAMETERS)
    if isinstance(given, list) and len(given) == len(pose):
        values: Any = enumerate(given)
    elif isinstance(given, dict):
        unknown = [name for name in given if name not in POSE_PARAMETERS]
        if unknown:
            raise UserError(f"{path} pose {row} has {unknown[0]!r}; expected names of thadistill.pose.POSE_PARAMETERS")
        values = ((POSE_PARAMETERS.index(name), value) for name, value in given.items())
    else:
        raise UserError(f"{path} pose {row} is no pose; expected {len(pose)} numbers, or values by name")
    for index, value in values:
        pose[index] = _number(value, path, f"{POSE_PARAMETERS[index]} of pose {row}")
    return torch.tensor([pose], dtype=torch.float64).float()  # what is too large for float32 is told as out of range
