"""The target sets of a distillation: which poses each has, and that no two purposes share any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from thadistill.config import compose
from thadistill.errors import UserError
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets, check_targets, training_ends
from thadistill.pose import POSE_PARAMETERS
from thadistill.tables import rotator_row
from thadistill.teacher import load_teacher
from thadistill.teacher.puppet import PuppetTeacher as Puppet


def composed(*overrides: str, verb: str = "distill") -> DictConfig:
    return compose(verb, ["teacher=puppet", "character=puppet", "out=run", *overrides])


def sets_of(config: DictConfig) -> TargetSets:
    teacher = load_teacher("puppet", seed=0)
    return TargetSets(config, teacher, teacher.character(), 1.0)  # type: ignore[operator]


@pytest.mark.parametrize("recipe", ["warm", "fast", "paper"])
def test_no_face_and_no_pose_is_trained_on_and_judged_by_or_chosen_and_reported_on(recipe: str) -> None:
    wanted = sets_of(composed(f"recipe={recipe}")).wanted
    facial = {name: {*map(tuple, w.poses.first(64)[:, POSE_PARAMETERS.facial].tolist())} for name, w in wanted.items()}
    assert facial["validation"] == facial["validation_face"]  # one purpose
    for one, other in combinations(set(facial) - {"validation_face"}, 2):
        assert not facial[one] & facial[other], (one, other)


def test_each_seed_moves_its_own_poses() -> None:
    plain, other = (sets_of(composed(*given)).wanted for given in ([], ["validation.seed=77"]))
    for name in ("validation", "validation_face"):
        assert not torch.equal(plain[name].poses.first(4), other[name].poses.first(4))
    assert torch.equal(plain["evaluation"].poses.first(4), other["evaluation"].poses.first(4))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["validation.seed=1000"], "validation.seed=1000 gives poses that evaluation.seed=1000 reports on"),
        (["validation.seed=0"], "validation.seed=0 gives faces that seed=0 trains on"),
        (["evaluation.seed=1000000"], "evaluation.seed=1000000 gives faces that seed=0 trains on"),
    ],
)
def test_seeds_that_would_share_poses_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_targets(composed(*overrides))


def test_planned_targets_that_are_gone_are_made_again(tmp_path: Path) -> None:
    config = composed("recipe.targets.posed=32", f"targets={tmp_path / 'a'}", "recipe.background_worker=false")
    run = RunFolder(tmp_path / "run", config)
    sets = sets_of(config)
    assert sets.build(run, ["posed"])["posed"].count == 32
    run.state["steps"][-1]["minutes"] = 1e3  # its share of the budget is spent
    shutil.rmtree(tmp_path / "a")
    assert sets_of(config).build(run, ["posed"])["posed"].count == 32


def test_what_evaluation_takes_is_kept_of_the_budget() -> None:
    plain, more = (
        training_ends(composed("evaluation.poses=20", *given), 30.0)
        for given in ([], ["evaluation.perceptual=[stlpips]"])
    )
    assert plain - more == pytest.approx(20 * 0.035)


def test_callbacks_find_as_many_validation_poses_as_they_ask_for(tmp_path: Path) -> None:
    config = composed("callbacks=best", "callbacks.best.poses=20", f"targets={tmp_path}")
    assert sets_of(config).wanted["validation"].most >= 20


@pytest.fixture
def distinct_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The puppet teacher as one whose low-precision targets are others, as THA3's are."""
    rounding: list[bool] = []

    @contextmanager
    def low_precision(self: Puppet) -> Iterator[None]:
        rounding.append(True)
        yield
        rounding.pop()

    plain = Puppet.fingerprint
    monkeypatch.setattr(Puppet, "low_precision", low_precision)
    monkeypatch.setattr(Puppet, "fingerprint", lambda self: plain(self) + ("rounded" if rounding else ""))


@pytest.mark.usefixtures("distinct_rounding")
@pytest.mark.parametrize(("recipe", "read_by"), [([], "warm"), (["recipe=fast"], "fast"), (["recipe=paper"], "paper")])
def test_what_thadistill_cache_makes_a_distillation_finds(recipe: list[str], read_by: str, tmp_path: Path) -> None:
    made = sets_of(composed(*recipe, f"targets={tmp_path / 'made'}", verb="cache"))
    read = sets_of(composed(f"recipe={read_by}", f"targets={tmp_path / 'read'}"))
    for name in read.wanted:
        assert made.cache(name).key == read.cache(name).key, name


@pytest.mark.usefixtures("distinct_rounding")
def test_a_tables_row_trains_on_the_targets_that_were_made_for_it(tmp_path: Path) -> None:
    config = composed(
        "trainer=cpu", "recipe.targets.posed=16", "evaluation.poses=1", "validation.checks=0", "budget_minutes=0.02",
        "student.body_rotator.width_scale=0.05", f"targets={tmp_path / 'targets'}", "module=body_rotator", verb="train",
    )  # fmt: skip
    row = rotator_row(config, tmp_path / "run")
    steps = {step["name"]: step["detail"] for step in json.loads((tmp_path / "run" / "run.json").read_text())["steps"]}
    assert steps["targets: posed"] == "16 poses, 0 new"
    assert steps["targets: validation"].endswith(", 0 new")
    assert (row["n"], row["poses"]) == (1, 16)
