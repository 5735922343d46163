"""What a run is keyed by: what is in the files that it names, not what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from thadistill.cli.app import main
from thadistill.config import compose, conf_dir, keyed
from thadistill.errors import UserError
from thadistill.pipeline.run_folder import RunFolder
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
    return compose("distill", given)


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
    RunFolder(tmp_path / "run", config).save()
    RunFolder(tmp_path / "run", composed(mine, *given))
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
        RunFolder(tmp_path / "run", composed(mine, *given))


def test_the_same_contents_elsewhere_are_the_same_run(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "moved" / "mine")
    assert keyed(composed(mine)) == keyed(composed(tmp_path / "moved" / "mine", "out=other", "targets=elsewhere"))
    assert keyed(composed(mine)) == keyed(composed(mine, "trainer.log_every_n_steps=7", "trainer.accelerator=auto"))
    assert keyed(composed(mine)) != keyed(composed(mine, "seed=1"))
    assert keyed(composed(mine)) != keyed(composed(mine, "+trainer.gradient_clip_val=1.0"))


def test_a_run_is_named_after_its_character(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for character, name in ((mine, "my_character-puppet-fast"), ("lambda_01", "lambda_01-puppet-fast")):
        main(["distill", f"character={character}", "teacher=puppet", "--cfg", "job", "--resolve"])
        assert f"out: outputs/distill/{name}" in capsys.readouterr().out


def resolved(*overrides: str, verb: str = "distill") -> dict[str, Any]:
    return keyed(compose(verb, overrides))[0]


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        (
            [],
            [
                "recipe=warm",
                "character=lambda_00",
                "teacher=tha3",
                "budget_minutes=10",
                "init=warm",
                "student=paper",
                "seed=0",
            ],
        ),
        (
            [],
            [
                "student.body_rotator.width_scale=1",
                "student.face_morpher.width=128",
                "recipe.face_morpher.stream.batch_size=128",
            ],
        ),
        (["teacher=puppet"], ["character=puppet", "budget_minutes=4.7", "init=null", "recipe=warm"]),
        (["teacher=puppet"], ["recipe=warm", "recipe.targets.posed_share=0.3"]),
        (["student.face_morpher.width=32"], ["recipe=warm", "init=null", "budget_minutes=10.0"]),
        (["recipe=paper"], ["budget_minutes=null", "init=null"]),
    ],
)
def test_typing_a_default_changes_nothing(given: list[str], typed: list[str]) -> None:
    assert resolved(*given, *typed) == resolved(*given)


@pytest.mark.parametrize(
    ("given", "init", "character", "minutes"),
    [
        ([], "warm", "lambda_00", 10),
        (["student=slim"], "warm", "lambda_00", 10),
        (
            ["student=paper", "student.body_rotator.width_scale=0.5", "student.face_morpher={width: 96, depth: 6}"],
            "warm",
            None,
            10,
        ),
        (["teacher=tha4", "character=crypko_00", "budget_minutes=5"], "warm", "crypko_00", 5),
        (["recipe.targets.posed=64"], "warm", "lambda_00", 10),
        (["init=outputs/mine/character_model", "teacher=puppet"], "outputs/mine/character_model", None, 4.7),
        (["init=init.safetensors", "student.body_rotator.width_scale=0.5"], "init.safetensors", "lambda_00", 10),
        (["student=vanilla_siren"], None, "lambda_00", 10),
        (["student.body_rotator.width_scale=0.7"], None, "lambda_00", 10),
        (["student.face_morpher.omega=20"], None, "lambda_00", 10),
        (["teacher=puppet"], None, None, 4.7),
        (["init=null"], None, "lambda_00", 10),
        (["recipe=fast"], None, "lambda_00", 10),
        (["recipe=paper"], None, "lambda_00", None),
        (["hparams_search=student"], None, "lambda_00", 10),
    ],
)
def test_the_default_run_begins_with_an_init_where_there_is_one(
    given: list[str], init: str | None, character: str | None, minutes: float | None
) -> None:
    config = compose("distill", given)
    assert (config.init, config.budget_minutes) == (init, minutes)
    if character is not None:
        assert config.character.name == character
    if "teacher=puppet" in given:
        assert config.character._target_ == "thadistill.data.character.puppet"
    if "recipe=paper" not in given:
        assert config.recipe.name == ("fast" if init is None else "warm")
        assert (config.recipe.body_rotator.stream.size == 6) == (init is not None)


def test_without_an_init_the_default_is_the_fast_recipe_in_every_value() -> None:
    assumed = {"phases": None, "iterations": 5, "overhang": 0}  # of the classes that take them
    default, fast = (
        OmegaConf.to_container(compose("distill", ["teacher=puppet", *given]), resolve=True)["recipe"]  # type: ignore[index]
        for given in ([], ["recipe=fast"])
    )
    for name, value in assumed.items():
        for part in ("optimizer", "weights", "stream"):
            if name in default["body_rotator"][part]:
                assert default["body_rotator"][part].pop(name) == value
    assert default.pop("init") is None
    assert default == fast


def test_training_alone_and_a_teacher_begin_with_random_weights() -> None:
    for module in ("face_morpher", "body_rotator", "teacher"):
        config = compose("train", [f"module={module}"])
        assert (config.init, config.recipe.name, config.budget_minutes) == (None, "fast", 10)
    assert compose("train", ["module=teacher", "stage=body_morpher"]).budget_minutes is None


def test_a_command_composes_another_while_it_runs() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        assert compose("distill", ["seed=3"]).seed == 3
        assert GlobalHydra.instance().is_initialized()
    assert not GlobalHydra.instance().is_initialized()


def test_a_tables_run_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    given = ("experiment=table5_student_quality", "scale=small")
    here, there = (keyed(compose("distill", [*given, f"out={tmp_path / name}"])) for name in ("here", "there"))
    assert here == there
