"""Two runs that fill the same cache at once: each shard is built by one of them, and both end with all."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from thadistill.data import target_builder
from thadistill.data.poses import PoseSequence
from thadistill.data.target_builder import build_targets, open_cache, shard_lock
from thadistill.data.target_cache import SHARD
from thadistill.teacher import load_teacher

POSES = PoseSequence(seed=6)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes targets from nothing but their poses; lists the first pose's sum of each shard that was made."""
    made: list[float] = []

    def instant(kind: Any, teacher: Any, image: Any, poses: torch.Tensor, batch_size: int) -> dict[str, torch.Tensor]:
        made.append(float(poses[0].sum()))
        return {"pose": poses, "face": torch.zeros(len(poses), 4, 128, 128)}

    monkeypatch.setattr(target_builder, "shard_targets", instant)
    return made


def test_a_shard_that_another_builds_is_left_to_it_and_waited_for(counted: list[float], tmp_path: Path) -> None:
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path / "face")
    lock = shard_lock(cache, 0)
    lock.acquire()
    other = threading.Thread(target=build_targets, args=(cache, teacher, image, POSES, 3 * SHARD))
    other.start()
    while not cache.has_shard(2):
        other.join(0.01)
        assert other.is_alive(), "it did not wait for the shard that this one holds"
    assert not cache.has_shard(0)
    assert len(counted) == 2
    first = POSES.first(SHARD)
    cache.write_shard(0, {"pose": first, "face": torch.ones(SHARD, 4, 128, 128)})
    lock.release()
    other.join(60)
    assert not other.is_alive()
    assert len(cache) == 3 * SHARD
    assert len(counted) == len({*counted}) == 2
    assert float(cache.open(1).get("face", 0).mean()) == 1  # this one's stands


def test_a_shard_whose_builder_ended_is_built(counted: list[float], tmp_path: Path) -> None:
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path / "face")
    lock = shard_lock(cache, 0)
    lock.acquire()
    other = threading.Thread(target=build_targets, args=(cache, teacher, image, POSES, 2 * SHARD))
    other.start()
    while not cache.has_shard(1):
        other.join(0.01)
        assert other.is_alive()
    lock.release()
    other.join(60)
    assert len(cache) == 2 * SHARD


def test_a_shard_whose_builder_ended_is_built_before_later_ones(
    counted: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path / "face")
    lock = shard_lock(cache, 0)
    lock.acquire()
    instant = target_builder.shard_targets

    def ending(*given: Any) -> dict[str, torch.Tensor]:
        lock.release()  # the other run ends while this one builds its first shard
        return instant(*given)

    monkeypatch.setattr(target_builder, "shard_targets", ending)
    assert build_targets(cache, teacher, image, POSES, 3 * SHARD) == 3 * SHARD
    shards = POSES.first(3 * SHARD).split(SHARD)
    assert counted == [float(shards[index][0].sum()) for index in (1, 0, 2)]


def test_a_last_shard_that_another_builds_is_not_waited_for_longer_than_the_time(
    counted: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_builder, "time", SimpleNamespace(monotonic=lambda: 0.0))  # building takes no time
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path / "face")
    held = [shard_lock(cache, index) for index in (1, 3)]  # shard 2 lies behind the first, nothing behind the other
    for lock in held:
        lock.acquire()
    other = threading.Thread(target=build_targets, args=(cache, teacher, image, POSES, 4 * SHARD, 4, 0.5))
    other.start()
    while not cache.has_shard(2):
        other.join(0.01)
        assert other.is_alive()
    other.join(1)
    assert other.is_alive(), "it did not wait for the shard before its own"
    held[0].release()
    other.join(60)
    assert not other.is_alive()
    assert len(counted) == 3
    assert len(cache) == 3 * SHARD
    assert not cache.has_shard(3)
