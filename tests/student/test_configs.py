"""Students as conf/student gives them: each can be made, kept and made fast; nonsense is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig

from thadistill.cli.app import main
from thadistill.config import compose, conf_dir
from thadistill.errors import UserError, check_positive, check_whole
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.init import save_init

STUDENTS = sorted(path.stem for path in (conf_dir() / "student").glob("*.yaml"))


def composed(student: str) -> DictConfig:
    return compose("distill", [f"student={student}"]).student


def made(student: str) -> CharacterModel:
    config = composed(student)
    torch.manual_seed(0)
    image = torch.full((4, 512, 512), -1.0)
    image[:, 100:400, 150:350] = 0.5
    networks = [hydra.utils.instantiate(config[part]) for part in ("face_morpher", "body_rotator")]
    return CharacterModel(image, *networks).eval()


@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_is_saved_and_loaded(student: str, tmp_path: Path) -> None:
    assert composed(student).name == student
    model = made(student)
    again = CharacterModel.load(model.save(tmp_path / "model"))
    assert again.body_rotator.sizes == model.body_rotator.sizes
    found, expected = again.state_dict(), model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_slim_student_in_the_native_runtime() -> None:
    model, pose = made("slim"), torch.rand(1, 45)
    assert sum(p.numel() for p in model.face_morpher.parameters()) == 50_980
    assert sum(p.numel() for p in model.body_rotator.parameters()) == 90_862
    with torch.inference_mode():
        expected = model(pose)
        fast = model.compile(runtime="native", visible=False)
        assert fast.name == "native"
        found = fast(pose)
    for name in ("grid_change", "alpha", "color_change", "face"):
        # float32 rounding of phases of some tens of radians, summed in another order
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=5e-4, rtol=0)
    # in the mean: where the warp lands on the silhouette, rounding shows
    assert float((found.posed - expected.posed).abs().mean()) < 1e-5


def refused(
    overrides: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """What the command says, in one line and before anything is made, to a student that it refuses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as caught:
        main(["distill", "teacher=puppet", "out=run", *overrides])
    captured = capsys.readouterr().err
    assert caught.value.code == 2
    assert captured.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("shard-*"))
    return captured


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("body_rotator.width_scale=-1.0", "student.body_rotator.width_scale=-1.0; expected a number above 0"),
        ("body_rotator.sizes=[128,512,512]", "expected one width a level, sizes doubling or equal"),
        ("body_rotator.sizes=[64,128,256]", "expected the last to be 512"),
        ("face_morpher.width=0", "student.face_morpher.width=0; expected a whole number above 0"),
    ],
)
def test_the_command_refuses_nonsense_before_it_makes_anything(
    override: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in refused([f"student.{override}"], capsys, tmp_path, monkeypatch)


def test_a_start_of_other_sizes_is_refused_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = made("paper")
    save_init(tmp_path / "init.safetensors", paper.face_morpher, paper.body_rotator)
    printed = refused(["student=slim", "init=init.safetensors"], capsys, tmp_path, monkeypatch)
    assert "init=init.safetensors has a face_morpher of other sizes than the student; expected the same" in printed


@pytest.mark.parametrize(
    ("network", "given"),
    [
        (BodyRotator, {"width_scale": -1.0}),
        (BodyRotator, {"width_scale": 0.0}),
        (BodyRotator, {"width_scale": float("nan")}),
        (BodyRotator, {"width_scale": float("inf")}),
        (BodyRotator, {"omega": 0.0}),
        (BodyRotator, {"depth": 0}),
        (BodyRotator, {"widths": (8, 0, 8)}),
        (BodyRotator, {"widths": (8, 8)}),
        (BodyRotator, {"sizes": (128, 512, 512)}),
        (BodyRotator, {"sizes": (-128, -256, -512)}),
        (BodyRotator, {"sizes": (), "widths": ()}),
        (FaceMorpher, {"width": -4}),
        (FaceMorpher, {"depth": 0}),
        (FaceMorpher, {"omega": -30.0}),
    ],
)
def test_networks_refuse_nonsense(network: type[BodyRotator] | type[FaceMorpher], given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^{network.__name__}: .*{next(iter(given))}.*; expected") as caught:
        network(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2.5, 3.0, "wide", None, True, [8]])
def test_sizes_are_whole_numbers(value: object) -> None:
    # the networks' own parameters are typed, and the tests' type checker would come first
    with pytest.raises(UserError, match=r"^width=.*; expected a whole number above 0"):
        check_whole("width", value)


@pytest.mark.parametrize("value", ["wide", None, True])
def test_factors_are_numbers(value: object) -> None:
    with pytest.raises(UserError, match=r"^omega=.*; expected a number above 0"):
        check_positive("omega", value)
    check_positive("omega", 1)


def test_very_narrow_students_are_fine() -> None:
    assert len(BodyRotator(width_scale=1e-6).siren_layers[0][0].linear.weight) == 1  # type: ignore[index]
    assert len(FaceMorpher(width=1, depth=1).siren.sine_layers) == 1
