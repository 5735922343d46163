"""Kill -9: the short form of experiments/reliability/kills.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "reliability" / "kills.py"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["prepare", "cache", "distill"])
def test_what_is_killed_continues(verb: str) -> None:
    spec = importlib.util.spec_from_file_location("reliability_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run(2, seed=1, verbs=[verb])
