"""The command line as a user runs it: a process, its exit status, what it prints and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def thadistill(tmp_path: Path) -> Command:
    """Runs ``thadistill ARGUMENTS`` in an empty folder, with a cache folder of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from thadistill.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "THADISTILL_CACHE": str(tmp_path / "cache"), "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
