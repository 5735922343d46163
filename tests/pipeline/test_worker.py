"""When a second process is taken, and that its failures reach the first."""

from __future__ import annotations

import json
import time
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from thadistill.config import compose
from thadistill.data import target_builder
from thadistill.data.target_cache import Kind
from thadistill.errors import UserError
from thadistill.pipeline.run_state import Run
from thadistill.pipeline.targets import TargetSets
from thadistill.pipeline.worker import Work, Worker, _teach, has_worker
from thadistill.teacher import Teacher, load_teacher

CPU = torch.device("cpu")


def composed(*overrides: str) -> DictConfig:
    return compose("distill", ["teacher=puppet", "character=puppet", "out=run", *overrides])


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["recipe=warm"], True),
        (["recipe.background_worker=false"], False),
        (["recipe=paper"], False),
        (["recipe.body_rotator.progress_by=patches", "recipe.body_rotator.patches=100"], False),
        (["callbacks=compare"], True),
        (["trainer=ddp", "trainer.devices=2"], False),
    ],
)
def test_when_there_is_a_second_process(overrides: list[str], expected: bool) -> None:
    config = composed(*overrides)
    assert has_worker(config, CPU) is expected
    assert not has_worker(config, torch.device("cuda"))


def test_one_thread_has_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not has_worker(composed(), CPU)


def slowed(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher takes so long per pose."""
    plain = target_builder.shard_targets

    def slow(kind: Kind, teacher: Teacher, image: torch.Tensor, poses: torch.Tensor, batch: int) -> object:
        time.sleep(seconds * len(poses))
        return plain(kind, teacher, image, poses, batch)

    monkeypatch.setattr(target_builder, "shard_targets", slow)


def test_a_slow_teacher_leaves_the_face_morpher_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowed(0.2, monkeypatch)
    budget = 0.7
    config = composed(
        f"budget_minutes={budget}", "trainer=cpu", "student.body_rotator.width_scale=0.05", "callbacks=none",
        "student.face_morpher={width: 16, depth: 3}", f"targets={tmp_path / 'targets'}", "validation.checks=0",
    )  # fmt: skip
    content = OmegaConf.to_container(config, resolve=True)
    work = Work(content, tmp_path / "face", budget, time.time(), 1, 2.0)  # type: ignore[arg-type]
    _teach(work, Mock(spec=Connection))
    plan = json.loads((tmp_path / "face" / "run.json").read_text())["plan"]
    assert plan["face_minutes"] > 0.9 * config.recipe.face_morpher.share * budget
    assert plan["posed_poses"] >= 32
    assert 4 <= plan["evaluation_poses"] < 16
    assert 4 <= plan["validation_face_poses"] <= 8


def test_with_time_enough_all_is_made(tmp_path: Path) -> None:
    config = composed("recipe.targets.posed=16", "recipe.targets.face=16", f"targets={tmp_path / 'targets'}")
    teacher = load_teacher("puppet", seed=0)
    sets = TargetSets(config, teacher, teacher.character(), 10.0)  # type: ignore[operator]
    names = ("posed", "face", "validation_face", "evaluation")
    made = sets.build(Run(tmp_path / "run", config), names, lambda: 5.0)
    assert {name: len(found) for name, found in made.items()} == {
        "posed": 16, "face": 16, "validation_face": 8, "evaluation": 16,
    }  # fmt: skip


def test_a_mistake_beside_is_told_and_threads_come_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        config = composed("character.seed=7", f"targets={tmp_path / 'targets'}")  # another puppet than the character
        with Worker(config, tmp_path / "face", 1.0, time.time()) as worker:
            assert torch.get_num_threads() == 2
            with pytest.raises(UserError, match="came with another character's image"):
                worker.wait()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
