"""What a run is keyed by: what is in the files that it names, not what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from thadistill.cli.app import main
from thadistill.config import conf_dir, keyed
from thadistill.errors import UserError
from thadistill.pipeline.run_state import Run
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.student.init import save_init


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "my character"
    folder.mkdir()
    picture(folder / "character.png", "red")
    return folder


def picture(path: Path, colour: str) -> None:
    image = Image.new("RGBA", (512, 512))
    image.paste(colour, (200, 80, 300, 400))
    image.save(path)


def composed(folder: Path, *overrides: str) -> DictConfig:
    given = ["character=folder", f"character.folder='{folder}'", "teacher=puppet", "out=run", *overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("distill", overrides=given)


def start_file(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_init(path, FaceMorpher(16, 2), BodyRotator(width_scale=0.05))
    return path


@pytest.mark.parametrize("what", ["picture", "mask", "mask elsewhere", "init", "poses"])
def test_a_run_on_other_contents_of_the_same_files_is_refused(what: str, mine: Path, tmp_path: Path) -> None:
    mask, init, poses = tmp_path / "mask.png", tmp_path / "init.safetensors", tmp_path / "poses.npy"
    Image.new("L", (512, 512)).save(mask)
    np.save(poses, np.zeros((16, 45), np.float32))
    given = [f"init={start_file(init, 0)}", f"recipe.targets.poses.source={poses}"]
    key = "character.folder"
    if what == "mask elsewhere":
        given.append(f"character.face_mask={mask}")
    config = composed(mine, *given)
    Run(tmp_path / "run", config).save()
    Run(tmp_path / "run", composed(mine, *given))
    if what == "picture":
        picture(mine / "character.png", "blue")
    elif what == "mask":
        Image.new("L", (512, 512), 255).save(mine / "face_mask.png")
    elif what == "mask elsewhere":
        key = "character.face_mask"
        Image.new("L", (512, 512), 255).save(mask)
    elif what == "init":
        key = "init"
        start_file(init, 1)
    else:
        key = "recipe.targets.poses.source"
        np.save(poses, np.ones((16, 45), np.float32))
    with pytest.raises(UserError, match=f"as the content of {key} differs"):
        Run(tmp_path / "run", composed(mine, *given))


def test_the_same_contents_elsewhere_are_the_same_run(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "moved" / "mine")
    assert keyed(composed(mine)) == keyed(composed(tmp_path / "moved" / "mine", "out=other", "targets=elsewhere"))
    assert keyed(composed(mine)) != keyed(composed(mine, "seed=1"))


def test_a_run_is_named_after_its_character(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for character, name in ((mine, "my_character-puppet-fast"), ("lambda_01", "lambda_01-puppet-fast")):
        main(["distill", f"character={character}", "teacher=puppet", "--cfg", "job", "--resolve"])
        assert f"out: outputs/distill/{name}" in capsys.readouterr().out
