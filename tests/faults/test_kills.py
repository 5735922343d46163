"""Kill -9: the short form of experiments/reliability/kills.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["prepare", "cache", "distill"])
def test_what_is_killed_continues(verb: str, script: Callable[[str], ModuleType]) -> None:
    assert script("kills").run(2, seed=1, verbs=[verb])
