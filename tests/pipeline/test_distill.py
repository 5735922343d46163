"""A distillation from within: what is kept when something fails, and what a folder's run is keyed by."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from thadistill.config import compose
from thadistill.pipeline import result
from thadistill.pipeline.distill import distill
from thadistill.pipeline.targets import budget_of
from thadistill.student import CharacterModel

pytestmark = pytest.mark.usefixtures("one_thread")
TOY = (
    *("teacher=puppet", "character=puppet", "trainer=cpu", "recipe.background_worker=false", "budget_minutes=0.05"),
    *("student.body_rotator.width_scale=0.05", "student.face_morpher.width=16"),
    *("recipe.targets.posed=16", "recipe.targets.face=16"),
    *("evaluation.poses=1", "evaluation.speed=false", "validation.poses=1", "validation.checks=0"),
)


def composed(*overrides: str, verb: str = "distill") -> DictConfig:
    return compose(verb, [*TOY, *overrides])


@pytest.fixture(scope="module")
def targets(toy_targets: Path) -> Path:
    return toy_targets / "by_name"


@pytest.mark.parametrize("failing", ["_evaluate", "student_frame_rate"])
def test_the_model_is_saved_before_anything_that_can_fail(
    failing: str, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise RuntimeError("out of luck")

    config = composed("evaluation.speed=true", f"targets={targets}", f"out={tmp_path / 'run'}")
    with monkeypatch.context() as patch:
        patch.setattr(result, failing, fails)
        with pytest.raises(RuntimeError, match="out of luck"):
            distill(config, tmp_path / "run", time.monotonic())
    model = CharacterModel.load(tmp_path / "run" / "character_model")
    assert (tmp_path / "run" / "character_model" / "face_mask.png").is_file()
    assert distill(config, tmp_path / "run", time.monotonic())["n"] == 1
    again = CharacterModel.load(tmp_path / "run" / "character_model")
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert (one == other).all()  # it was evaluated, not trained again


@pytest.mark.parametrize(
    ("given", "minutes"),
    [
        (["recipe=paper", "budget_minutes=null"], None),
        (["recipe=paper", "budget_minutes=3"], 3.0),
        (["recipe=paper"], None),
        (["recipe=fast"], 4.7),
        (["recipe=paper", "recipe.face_morpher.progress_by=minutes"], 4.7),
    ],
)
def test_a_recipe_that_counts_examples_has_no_clock_unless_it_is_given_one(
    given: list[str], minutes: float | None
) -> None:
    config = compose("distill", [*(toy for toy in TOY if not toy.startswith("budget_minutes")), *given])
    assert budget_of(config) == minutes


def test_without_a_clock_training_ends_with_its_last_example(targets: Path, tmp_path: Path) -> None:
    config = composed(
        "recipe=paper", "budget_minutes=null", "recipe.face_morpher.poses=80", "recipe.body_rotator.patches=20",
        "recipe.body_rotator.stream.batch_size=2", f"targets={targets / 'paper'}", f"out={tmp_path / 'run'}",
        "validation.checks=2",
    )  # fmt: skip
    distill(config, tmp_path / "run", time.monotonic())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["budget_minutes"] is None
    assert "no clock" in (tmp_path / "run" / "report.md").read_text()
    for part, examples in (("face", 80), ("body", 20)):
        kept = torch.load(tmp_path / "run" / part / "final.ckpt", weights_only=True)
        assert kept["callbacks"]["Budget"]["count"] == examples
        assert len(list((tmp_path / "run" / part / "grids").glob("*.png"))) == 3  # two checks, and the end
