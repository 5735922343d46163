"""Full disks: the short form of experiments/reliability/disks.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_a_full_disk_is_told_and_with_room_it_goes_on(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    disks = script("disks")
    try:
        with disks.disk(tmp_path / "disk"):
            pass
    except (OSError, PermissionError) as error:
        pytest.skip(str(error))
    assert disks.run(1, seed=2, verbs=["cache"])
