"""Random pictures: the short form of experiments/reliability/pictures.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "reliability" / "pictures.py"


def test_sixty_random_pictures_are_read_rightly_or_refused() -> None:
    spec = importlib.util.spec_from_file_location("reliability_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run(60, seed=1) == []
