"""Fixtures: the face tracker's model where `assets pull=facetracking` puts it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from thadistill.assets import FACE_TRACKING


@pytest.fixture
def tracker_model(reference: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model, in a cache folder that holds nothing else."""
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
    path = FACE_TRACKING.folder / "face_landmarker.task"
    path.parent.mkdir(parents=True)
    shutil.copy(reference / "models" / "face_landmarker.task", path)
    return path
