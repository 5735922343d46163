"""Random pictures: the short form of experiments/reliability/pictures.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def test_sixty_random_pictures_are_read_rightly_or_refused(script: Callable[[str], ModuleType]) -> None:
    assert script("pictures").run(60, seed=1) == []
