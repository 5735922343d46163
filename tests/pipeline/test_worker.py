"""When a second process is taken, and that its failures reach the first."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from thadistill.config import compose
from thadistill.data import target_builder, target_cache
from thadistill.data.target_cache import FIELDS, Kind
from thadistill.errors import UserError
from thadistill.pipeline import targets as planning
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets, training_ends
from thadistill.pipeline.worker import Shares, Work, Worker, all_targets, has_worker, help_to_teach, share_threads
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


@pytest.mark.parametrize(
    ("seconds", "budget", "posed", "evaluated"), [(2.0, 2.0, 16, 4), (0.5, 2.0, 80, 16), (0.2, 10.0, 2048, 16)]
)
def test_a_slow_teacher_leaves_the_face_morpher_its_share(
    seconds: float, budget: float, posed: int, evaluated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher takes so many seconds per pose of a clock of its own; the first process has made a shard."""
    clock = [0.0]

    def slow(kind: Kind, teacher: Teacher, image: torch.Tensor, poses: torch.Tensor, batch: int) -> object:
        clock[0] += seconds * len(poses)
        names = FIELDS[kind][1:]
        return {"pose": poses, **{name: torch.zeros(len(poses), *small[name]) for name in names}}

    monkeypatch.setattr(target_builder, "shard_targets", slow)
    small = {"posed": (4, 8, 8), "grid_change": (2, 8, 8), "face_region": (4, 8, 8), "face": (4, 8, 8)}
    monkeypatch.setattr(target_cache, "SHAPES", {**target_cache.SHAPES, **small})
    for module in (target_builder, planning):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    config = composed(f"budget_minutes={budget}", "trainer=cpu", f"targets={tmp_path / 'targets'}")
    teacher = load_teacher("puppet", seed=0)
    sets = TargetSets(config, teacher, teacher.character(), budget, 2.0, lambda said: None)  # type: ignore[operator]
    sets.fill("posed", sets.cache("posed"), 16, None)
    clock[0] = 18.0  # what starting takes
    ends, share = training_ends(config, budget), config.recipe.face_morpher.share * budget
    made = all_targets(sets, RunFolder(tmp_path / "run", config), lambda: ends - clock[0] / 60 - share)
    assert ends - clock[0] / 60 > 0.95 * share
    assert 16 <= len(made["posed"]) <= posed
    assert len(made["evaluation"]) == evaluated


def test_with_time_enough_all_is_made(tmp_path: Path) -> None:
    config = composed("recipe.targets.posed=16", "recipe.targets.face=16", f"targets={tmp_path / 'targets'}")
    teacher = load_teacher("puppet", seed=0)
    sets = TargetSets(config, teacher, teacher.character(), 10.0)  # type: ignore[operator]
    names = ("posed", "face", "validation_face", "evaluation")
    made = sets.build(RunFolder(tmp_path / "run", config), names, lambda: 5.0)
    assert {name: len(found) for name, found in made.items()} == {
        "posed": 16, "face": 16, "validation_face": 8, "evaluation": 16,
    }  # fmt: skip


def test_a_mistake_in_the_worker_is_reported_and_threads_come_back(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("threads", "shares"),
    [
        *((2, (1, 1, 0, 1)), (3, (2, 1, 0, 1)), (4, (2, 1, 1, 2)), (6, (3, 1, 2, 3))),
        *((8, (4, 2, 2, 4)), (16, (6, 2, 8, 4)), (64, (6, 2, 16, 4))),
    ],
)
def test_threads_are_shared_out(threads: int, shares: tuple[int, int, int, int]) -> None:
    assert share_threads(threads) == Shares(*shares)
    assert share_threads(threads, memory=4 * 2**30).helpers == min(shares[2], 1)


def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    """Six threads: the first process, the worker and two helpers, on as many cores as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    toy = ("recipe.targets.posed=64", "recipe.targets.face=32", "student.face_morpher.width=32", "evaluation.poses=4")
    try:
        config = composed(*toy, f"targets={tmp_path / 'shared'}")
        with Worker(config, tmp_path / "face", 5.0, time.time()) as worker:
            helpers = list(worker._helpers)
            assert torch.get_num_threads() == 3
            for helper in helpers:
                helper.join()
            worker.look()
        assert [helper.exitcode for helper in helpers] == [0, 0]
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
    character, teacher = load_puppet()
    for name in ("posed", "face"):
        shared = TargetSets(config, teacher, character, None).cache(name)
        alone = TargetSets(composed(*toy, f"targets={tmp_path / 'alone'}"), teacher, character, None).complete(name)[
            name
        ]
        assert len(shared) == len(alone) == {"posed": 64, "face": 32}[name]
        for field in FIELDS[name][1:]:
            assert all(torch.equal(shared.open().get(field, i), alone.get(field, i)) for i in range(len(alone)))


def test_a_helper_makes_all_that_is_trained_on(tmp_path: Path) -> None:
    config = composed("recipe.targets.posed=32", "recipe.targets.face=16", f"targets={tmp_path / 'targets'}")
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    help_to_teach(Work(content, tmp_path / "face", 10.0, time.time(), torch.get_num_threads(), 1, 1.0))  # type: ignore[arg-type]
    character, teacher = load_puppet()
    sets = TargetSets(config, teacher, character, None)
    assert (len(sets.cache("posed")), len(sets.cache("face"))) == (32, 16)
    later = composed("recipe.targets.posed=48", "recipe.targets.face=16", f"targets={tmp_path / 'targets'}")
    content = OmegaConf.to_container(later, resolve=True)
    assert isinstance(content, dict)  # the teacher's share is over
    help_to_teach(Work(content, tmp_path / "face", 10.0, time.time() - 540, torch.get_num_threads(), 1, 1.0))  # type: ignore[arg-type]
    assert len(sets.cache("posed")) == 32


def load_puppet() -> tuple[torch.Tensor, Teacher]:
    teacher = load_teacher("puppet", seed=0)
    return teacher.character(), teacher  # type: ignore[operator]
