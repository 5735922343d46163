"""Every key of the composed configs is read by the verb that has it: no key is without an effect."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from thadistill.cli import cache
from thadistill.config import conf_dir
from thadistill.pipeline.distill import distill, train_one
from thadistill.pipeline.teacher import train_teacher

pytestmark = pytest.mark.usefixtures("one_thread")
TOY = ("teacher=puppet", "character=puppet", "trainer=cpu")
TINY = (
    *TOY, "student.body_rotator.width_scale=0.05", "student.face_morpher.width=16", "budget_minutes=0.02",
    "recipe.targets.posed=16", "recipe.targets.face=16", "recipe.background_worker=false", "evaluation.poses=1",
    "validation.poses=1", "validation.checks=1", "callbacks=none", "keep_every=10",
)  # fmt: skip
STAGE = (
    *TOY, "module=teacher", "triples.train_characters=1", "triples.test_characters=1", "triples.poses=2", "stage.size=32",
    "stage.network.base=4", "budget_minutes=0.02", "validation.triples=1", "validation.checks=1",
    "stage.perceptual=laplacian", "stage.phases=[{until: 1.0, perceptual: 0.1}]", "callbacks=none",
)  # fmt: skip
FLAT = ("assets", "benchmark", "evaluate", "export", "prepare", "serve")


def composed(verb: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(verb, overrides=list(overrides))


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its key."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, content


def unread(config: DictConfig, read: set[str]) -> set[str]:
    """Keys of ``config`` that are not in ``read``, nor interpolated into one that is."""
    values = dict(leaves(OmegaConf.to_container(config, resolve=False)))
    found: set[str] = set()
    waiting = [*((key, False) for key in read), ("out", True)]  # Hydra's own run folder
    while waiting:
        key, whole = waiting.pop()
        for name in values.keys() - found:
            if name == key or (whole and name.startswith(f"{key}.")):
                found.add(name)
                targets = re.findall(r"\$\{(?:oc\.select:)?([\w.]+)", str(values[name]))
                waiting += [(target, True) for target in targets]
    return {key for key in values.keys() - found if not key.rpartition(".")[2].startswith("_")}  # Hydra's own words


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys that are read from here on: one by one, or by building what they describe."""
    keys: set[str] = set()
    get, build = DictConfig._get_impl, hydra.utils.instantiate

    def reading(self: DictConfig, key: Any, *rest: Any, **named: Any) -> Any:
        keys.add(str(self._get_full_key(key)))
        return get(self, key, *rest, **named)

    def building(config: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(config, DictConfig):
            place = config._get_full_key(None)
            keys.update(f"{place}.{key}" for key, _ in leaves(OmegaConf.to_container(config, resolve=False)))
        return build(config, *rest, **named)

    monkeypatch.setattr(DictConfig, "_get_impl", reading)
    monkeypatch.setattr(hydra.utils, "instantiate", building)
    return keys


def test_cache(read: set[str], tmp_path: Path) -> None:
    overrides = (*TOY, "kind=face", "n=4", f"targets={tmp_path / 'targets'}", f"out={tmp_path}")
    config = composed("cache", *overrides)
    read.clear()
    cache.run(config, tmp_path)
    # what a recipe says of training is not the cache's, which asks it for its targets alone
    left = {key for key in unread(config, read) if not key.startswith(("recipe.face_morpher", "recipe.body_rotator"))}
    assert left <= {"recipe.name", "recipe.background_worker"}


def test_distill_and_train(read: set[str], toy_targets: Path, tmp_path: Path) -> None:
    place = (f"targets={toy_targets / 'by_name'}",)
    runs = {
        "distill": composed("distill", *TINY, *place, f"out={tmp_path / 'all'}"),
        "body": composed("train", *TINY, *place, "module=body_rotator", f"out={tmp_path / 'body'}"),
        "teacher": composed("train", *STAGE, f"triples.folder={tmp_path / 'triples'}", f"out={tmp_path / 'teacher'}"),
    }
    read.clear()
    distill(runs["distill"], tmp_path / "all", time.monotonic())
    train_one(runs["body"], tmp_path / "body", time.monotonic())
    train_teacher(runs["teacher"], tmp_path / "teacher")
    assert not set.union(*(unread(config, read) for config in runs.values()))


@pytest.mark.parametrize("verb", FLAT)
def test_verbs_of_few_keys(verb: str) -> None:
    text = (Path(hydra.utils.get_object(f"thadistill.cli.{verb}").__file__)).read_text()
    for key in composed(verb) if verb not in ("evaluate", "export", "prepare") else ():
        assert key == "out" or f"config.{key}" in text, key
