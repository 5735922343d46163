"""Fixtures: small random students whose frames hold something, and the official one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runtime_frames import random_model

from tests.cache import new_cache
from thadistill.data.poses import sample_poses
from thadistill.outputs import StudentOutput
from thadistill.student import CharacterModel


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions and plans are measured in a folder of their own, so that no test passes on an old one."""
    folder = new_cache(tmp_path_factory.mktemp("runtime"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THADISTILL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def model() -> CharacterModel:
    """A small random student of odd widths, so that every padding of the kernels is used."""
    return random_model()


@pytest.fixture(scope="session")
def official(reference: Path) -> CharacterModel:
    """The student its authors trained."""
    return CharacterModel.load(reference / "students" / "lambda_00")


@pytest.fixture(scope="session")
def official_frame(official: CharacterModel) -> tuple[torch.Tensor, StudentOutput]:
    """A pose, and the official student's frame of it by the published network's own arithmetic."""
    pose = sample_poses(1, seed=4)
    with torch.no_grad():
        return pose, official(pose)
