"""Reading weight files: what is whole is read, all else is refused in a line that says what came and what was expected."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.teacher.weights import load_networks


def make() -> nn.Module:
    teacher = nn.Module()
    teacher.add_module("first", nn.Linear(2, 3))
    teacher.add_module("second", nn.Conv2d(1, 4, 3))
    return teacher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good files of ``make``'s two networks."""
    for name, network in make().named_children():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    return tmp_path


def refusal(source: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_networks(make(), source, torch.float32)
    message = str(caught.value)
    assert "\n" not in message
    return message


def weight(path: Path) -> Tensor:
    return torch.load(path, weights_only=True)["weight"]


def test_reads_a_folder_into_networks_without_storage(folder: Path) -> None:
    with torch.device("meta"):
        teacher = make()
    load_networks(teacher, folder, torch.bfloat16)
    assert teacher.first.weight.dtype == torch.bfloat16
    torch.testing.assert_close(teacher.first.weight.float(), weight(folder / "first.pt"), rtol=1e-2, atol=0)


@pytest.mark.parametrize("inside", ["", "data/tha4/"])
def test_reads_a_zip_at_any_depth(folder: Path, tmp_path_factory: pytest.TempPathFactory, inside: str) -> None:
    packed = tmp_path_factory.mktemp("zip") / "weights.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, inside + path.name)
    teacher = make()
    load_networks(teacher, packed, torch.float32)
    torch.testing.assert_close(teacher.second.weight.data, weight(folder / "second.pt"), rtol=0, atol=0)


def test_absent_source(tmp_path: Path) -> None:
    assert "nowhere does not exist; expected" in refusal(tmp_path / "nowhere")


def test_absent_file_names_what_is_there(folder: Path) -> None:
    (folder / "second.pt").unlink()
    message = refusal(folder)
    assert "has no second.pt (it has: first.pt)" in message
    assert "expected first.pt, second.pt" in message


def test_zip_without_the_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    assert "has no first.pt (it has: readme.txt)" in refusal(tmp_path / "other.zip")


def test_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "weights.zip").write_bytes(b"half a downl")
    assert "is not a readable ZIP" in refusal(tmp_path / "weights.zip")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_file(folder: Path, share: float) -> None:
    whole = (folder / "first.pt").read_bytes()
    (folder / "first.pt").write_bytes(whole[: int(len(whole) * share)])
    assert "first.pt cannot be read as tensors" in refusal(folder)


def test_text_file(folder: Path) -> None:
    (folder / "first.pt").write_text("version https://git-lfs.github.com/spec/v1")
    assert "first.pt cannot be read as tensors" in refusal(folder)


def test_code_in_a_pickle_is_not_run(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (folder / "was here",))

    with (folder / "first.pt").open("wb") as file:
        pickle.dump({"weight": Evil()}, file)
    assert "first.pt cannot be read" in refusal(folder)
    assert not (folder / "was here").exists()


def test_not_tensors_by_name(folder: Path) -> None:
    torch.save([torch.zeros(2)], folder / "first.pt")
    assert "first.pt holds a list; expected tensors by name" in refusal(folder)


def test_foreign_shapes_and_names_are_reported_apart(folder: Path) -> None:
    torch.save({"weight": torch.zeros(5, 2), "scale": torch.zeros(1)}, folder / "first.pt")
    message = refusal(folder)
    assert "without bias [3]" in message
    assert "with the unknown scale [1]" in message
    assert "with weight [5, 2] instead of [3, 2]" in message
    assert "expected the 2 tensors of Linear" in message
