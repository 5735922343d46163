"""MediaPipe with its real model on a real face: known turns, blinks, a video file, no face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thadistill.drive import BlendshapeMapper
from thadistill.drive.face_tracker import FaceTracker
from thadistill.drive.track import read_track
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from .faces import face, write_video

NECK = POSE_PARAMETERS.index("neck_z")
WINKS = [POSE_PARAMETERS.index(f"eye_{kind}_left") for kind in ("wink", "happy_wink")]


def test_turns_and_blinks_are_seen(tracker_model: Path) -> None:
    turns = 14 * np.sin(np.arange(24) / 3)
    with FaceTracker() as tracker:
        faces = [tracker.find(face(turn), i / 30) for i, turn in enumerate(turns)]
        rolls = np.array([BlendshapeMapper.angles(found.head)[2] for found in faces if found is not None])
        assert len(rolls) == len(turns)
        assert np.corrcoef(rolls, turns)[0, 1] > 0.99  # the issue asks for 0.9
        assert np.abs(rolls - rolls.mean() - (turns - turns.mean())).max() < 3  # degrees
        seen = []
        for i, closed in enumerate([0.0] * 4 + [1.0] * 4 + [0.0] * 4):
            found = tracker.find(face(0, closed), 1 + i / 30)
            assert found is not None
            seen.append(min(found.blendshapes["eyeBlinkLeft"], found.blendshapes["eyeBlinkRight"]))
        assert max(seen[:4]) < 0.15
        assert seen[7] > 0.35
        assert seen[-1] < 0.15
        assert tracker.find(np.full((240, 320, 3), 90, np.uint8), 2.0) is None
        assert tracker.find(face(), 0.0) is not None  # a video that begins again


def test_a_video_of_a_face_is_a_track(tracker_model: Path, tmp_path: Path) -> None:
    turns = 10 * np.sin(np.arange(30) / 4)
    images = [np.full((440, 440, 3), 90, np.uint8)] * 5 + [
        face(turn, float(15 <= i < 20)) for i, turn in enumerate(turns)
    ]
    track = read_track(write_video(tmp_path / "face.mp4", images, 25))
    assert np.allclose(track.times, np.arange(35) / 25)
    assert not track.poses[:5].any()  # at rest until a face is seen
    necks = track.poses[5:, NECK].numpy()
    assert np.corrcoef(necks, turns)[0, 1] > 0.95
    winks = track.poses[5:, WINKS].sum(1)
    assert winks[15:20].max() > 0.4
    assert winks[:14].max() < 0.15


def test_what_is_missing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="run 'thadistill assets pull=facetracking'"):
        FaceTracker()
    (tmp_path / "bad.task").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"bad\.task cannot be read as a face tracker"):
        FaceTracker(tmp_path / "bad.task")


def test_a_video_without_a_face_is_reported(tracker_model: Path, tmp_path: Path) -> None:
    empty = write_video(tmp_path / "a.mp4", [np.full((440, 440, 3), 90, np.uint8)] * 5, 25)
    with pytest.raises(UserError, match="shows no face in 5 images"):
        read_track(empty)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"b\.mp4 cannot be read as a video"):
        read_track(tmp_path / "b.mp4")
