"""Faults of model files: odd names, numbers that are not finite, paths out of the folder; each is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from thadistill.errors import UserError
from thadistill.student.character_model import CharacterModel
from thadistill.teacher.weights import load_networks
from thadistill.tensors import read_tensors


def broken(tensors: dict[object, torch.Tensor], path: Path) -> str:
    torch.save(tensors, path)
    with pytest.raises(UserError) as caught:
        read_tensors(path, "x.pt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_student_files_with_odd_tensors(tmp_path: Path) -> None:
    path = tmp_path / "face_morpher.pt"
    good = torch.zeros(2, 2)
    assert "named 3" in broken({3: good}, path)
    assert "not finite" in broken({"a": torch.tensor([1.0, float("nan")])}, path)
    assert "not finite" in broken({"a": torch.tensor([float("inf")])}, path)
    assert "of complex64" in broken({"a": torch.zeros(2, dtype=torch.complex64)}, path)
    assert "no dense array" in broken({"a": torch.zeros(2, 2).to_sparse()}, path)
    assert "no dense array" in broken({"a": torch.zeros(2, device="meta")}, path)
    assert "repeats its values" in broken({"a": torch.zeros(1).expand(10**6, 10**6)}, path)  # 4 TB, were it read
    torch.save({"a": good}, path)
    assert torch.equal(read_tensors(path, "x.pt")["a"], good)


@pytest.mark.parametrize("name", ["/etc/hostname", "../other/character.png", "inside/../../x.png"])
def test_a_manifest_names_files_of_its_own_folder(name: str, tmp_path: Path) -> None:
    content = {"character_image_file_name": name, "face_morpher_file_name": "a.pt", "body_morpher_file_name": "b.pt"}
    (tmp_path / "character_model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="expected a file in its own folder"):
        CharacterModel.load(tmp_path)


class Toy(nn.Module):
    """A teacher of one network."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(2, 2)


def test_teacher_files_with_odd_tensors(tmp_path: Path) -> None:
    state: dict[object, torch.Tensor] = dict(nn.Linear(2, 2).state_dict())
    torch.save(state, tmp_path / "part.pt")
    load_networks(Toy(), tmp_path, torch.float32)
    for odd in ({7: torch.zeros(1)}, {"weight": torch.full((2, 2), float("nan"))}, {"bias": torch.zeros(2).long()}):
        torch.save({**state, **odd}, tmp_path / "part.pt")
        with pytest.raises(UserError, match=r"expected (names|finite numbers|floating-point numbers)"):
            load_networks(Toy(), tmp_path, torch.float32)
