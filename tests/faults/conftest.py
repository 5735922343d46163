"""The scripts of experiments/reliability, of which the suite runs short forms."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent.parent / "experiments" / "reliability"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script by its name; they import each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module
