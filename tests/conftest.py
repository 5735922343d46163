"""Fixtures: the reference folder, skipped with a reason where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """Trained files and golden data: THADISTILL_REFERENCE, else ../shared/reference from the project's root."""
    folder = Path(os.environ.get("THADISTILL_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set THADISTILL_REFERENCE")
    return folder
