"""Spoiled files to every loader: the short form of experiments/reliability/fuzz.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def test_spoiled_files_are_read_rightly_or_refused(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    fuzz = script("fuzz")
    wrong = []
    for number, (name, loader) in enumerate(fuzz.LOADERS.items()):
        place = tmp_path / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        monkeypatch.setenv("THADISTILL_CACHE", str(place))
        wrong += fuzz.fuzz(name, range(max(8, min(40, loader.share))), seed=7).wrong
    assert wrong == []


def test_what_a_loader_does_wrong_is_seen(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz = script("fuzz")
    monkeypatch.chdir(tmp_path)

    def careless(folder: Path) -> bytes:
        content = (folder / "x").read_bytes()
        if content == b"crash":
            raise KeyError(content)
        if content == b"code":
            (folder.parent / "ran").mkdir()
        if content == b"lines":
            raise fuzz.UserError("a" * 2000)
        return content

    def spoil(name: str, data: bytes, generator: np.random.Generator) -> object:
        kind = [b"crash", b"code", b"lines", b"other", b"fine"][int(generator.integers(5))]
        return fuzz.Mutant(kind, bytes_only=kind == b"other")

    loader = fuzz.Loader(1, lambda: {"x": b"valid"}, spoil, careless)
    monkeypatch.setitem(fuzz.LOADERS, "careless", loader)
    found = fuzz.fuzz("careless", range(60), seed=0)
    told = " ".join(found.wrong)
    for part in ("KeyError", "code was run", "accepted though damaged"):
        assert part in told
    assert "lines" not in told  # a UserError is one line, and not too long, whatever it quotes
    assert found.inputs == 60 == found.accepted + found.refused + len(found.wrong)
