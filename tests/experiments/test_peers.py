"""frame_rate's peers and random students: other engines give the student's frames; conf/student's sizes are built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from thadistill.data.character import puppet
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.metrics.image import psnr
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher

FOLDER = Path(__file__).parents[2] / "experiments" / "frame_rate"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules next to frame_rate's runner, which stand outside the package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("peers", "students")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield {name: import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("peer", ["openvino", "ncnn"])  # torch.compile would take a minute
def test_a_peer_gives_the_students_frames(peer: str, modules: dict[str, ModuleType]) -> None:
    for package in modules["peers"].PACKAGES[peer]:
        pytest.importorskip(package)
    torch.manual_seed(0)
    model = CharacterModel(puppet().image, FaceMorpher(width=16, depth=3), BodyRotator(width_scale=0.1)).eval()
    poses = sample_poses(2, seed=3)
    found = modules["peers"].PEERS[peer](model)
    for pose in poses.split(1):
        with torch.no_grad():
            expected = model(pose)
        for name in ("posed", "warped", "face"):
            assert float(psnr(getattr(found(pose), name), getattr(expected, name)).min()) > 70, name


def test_a_size_of_conf_student_is_opened_with_random_weights(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    (student,) = modules["students"].open_students([Path("vanilla_siren")])
    assert student.name == "vanilla_siren, random weights"
    assert student.about()["body_sizes"] == "512"
    assert student.about()["psnr_to_teacher"] == ""
    with pytest.raises(UserError):
        modules["students"].open_students([tmp_path / "nothing"])
