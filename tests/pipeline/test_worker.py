"""When a second process is taken, and that its failures reach the first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from thadistill.config import compose
from thadistill.errors import UserError
from thadistill.pipeline.worker import Worker, has_worker

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
        (["recipe.body_rotator.progress_by=examples", "recipe.body_rotator.examples=100"], False),
        (["callbacks=compare"], False),
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
