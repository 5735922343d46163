"""Results page: what the README and experiments/README.md say is what the commands wrote."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "experiments" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["results"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_results_make(results: ModuleType) -> None:
    def undated(text: str) -> str:  # a shallow clone does not know old commits' days
        return re.sub(r", \d{4}-\d\d-\d\d", "", text)

    assert undated((ROOT / "experiments" / "README.md").read_text()) == undated(results.page()), (
        "python experiments/results.py"
    )


def test_the_readme_says_the_pages_figures(results: ModuleType) -> None:
    said = " ".join((ROOT / "README.md").read_text().split())
    quoted = [claim for claim in results.CLAIMS if claim.readme is not None]
    assert len(quoted) >= 6
    for claim in quoted:
        assert claim.readme.format(claim.figure().said) in said, f"{claim.what}: {claim.figure().said}"


def test_every_folder_says_what_it_is() -> None:
    for folder in (path for path in (ROOT / "experiments").iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert (folder / "README.md").is_file(), folder.name
