"""Fixtures: the reference folder, skipped with a reason where it is absent; a cache folder of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache import new_cache

ROOT = Path(__file__).parent.parent
# threads of one process that wait actively take the cores of the tests that run beside it; read when torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Trained files and golden data: THADISTILL_REFERENCE, else ../shared/reference from the project's root."""
    folder = Path(os.environ.get("THADISTILL_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set THADISTILL_REFERENCE")
    return folder


@pytest.fixture(scope="session")
def toy_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests that train at toy size share their teachers' targets."""
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch: at toy size two mostly wait for each other, for minutes on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_cache(tmp_path: Path, toy_targets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, here and in the processes that it starts: see :func:`tests.cache.new_cache`."""
    made = new_cache(tmp_path, toy_targets)
    monkeypatch.setenv("THADISTILL_CACHE", str(made))
    return made
