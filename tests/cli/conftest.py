"""The command line as a user runs it: its exit status, what it prints and what it leaves."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def thadistill(tmp_path: Path, own_cache: Path) -> Command:
    """Runs ``thadistill ARGUMENTS`` as a process in an empty folder, with a cache folder of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from thadistill.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def thadistill_here(
    tmp_path: Path, own_cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """As ``thadistill``, but in this process: nothing is imported again, which takes longer than most commands."""
    from thadistill.cli import main  # not at the top: a conftest.py is read before jaxtyping's checks begin

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(max(2, os.cpu_count() or 1))  # a process's own; with one there is no background worker
        for verb in ("distill", "train"):  # their budgets count from the start of a process
            monkeypatch.setattr(importlib.import_module(f"thadistill.cli.{verb}"), "STARTED", time.monotonic())
        status: object = 0
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["thadistill"])
            try:
                main([*map(str, arguments)])
            except SystemExit as ended:
                status = ended.code or 0
            finally:
                torch.set_num_threads(threads)
        assert isinstance(status, int), status
        return subprocess.CompletedProcess(arguments, status, *capfd.readouterr())

    return run
