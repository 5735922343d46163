"""Rerun: which figures of an experiment made again are not what they were."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from thadistill.errors import UserError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def rerun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    yield importlib.import_module("rerun")
    sys.modules.pop("rerun")


def test_figures_are_compared_by_what_they_are(rerun: ModuleType) -> None:
    before = [
        {"row": "a", "psnr": "30.0", "ms_median": "100", "n": "16", "hardware": "one", "load": "0.1"},
        {"row": "b", "psnr": "31.0", "ms_median": "100", "n": "16", "hardware": "one", "load": "0.1"},
    ]
    agree = [{**before[1], "psnr": "31.2", "ms_median": "115", "load": "3"}, {**before[0], "psnr": "29.8"}]
    assert rerun.compared(before, agree) == (2, [])
    other = [{**before[0], "hardware": "two", "ms_median": "300"}]  # times of other machines are not compared
    assert rerun.compared(before, other) == (1, [])
    differ = [{**before[0], "psnr": "29.0"}, {**before[1], "ms_median": "150", "n": "12"}]
    assert [str(one) for one in rerun.compared(before, differ)[1]] == [
        "a: psnr 30.0 -> 29.0",
        "b: ms_median 100 -> 150",
        "b: n 16 -> 12",
    ]


def test_every_folder_that_is_made_again_is_there(rerun: ModuleType) -> None:
    for folder in rerun.COMMANDS:
        for script, *_ in rerun.commands_of(
            folder, dict.fromkeys(("paper", "slim", "body", "upscaler", "face"), "DIR")
        ):
            assert "__main__" in (EXPERIMENTS / folder / script).read_text()


def test_a_folder_is_made_again_apart(rerun: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "experiments" / "toy"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("row,psnr\na,30.0\n")
    script = "import pathlib, sys; here = pathlib.Path(__file__).parent; assert not (here / 'results.csv').exists()\n"
    (folder / "run.py").write_text(f"{script}(here / 'results.csv').write_text(f'row,psnr\\na,{{sys.argv[1]}}\\n')")
    monkeypatch.setattr(rerun, "HERE", folder.parent)
    monkeypatch.setattr(rerun, "COMMANDS", {"toy": ("run.py {paper}",)})
    assert rerun.run("toy", rerun.commands_of("toy", {"paper": "30.1"})) == []
    assert rerun.run("toy", [["run.py", "20.0"]]) == ["a: psnr 30.0 -> 20.0"]
    (folder / "results.csv").write_text("row,psnr\nb,30.0\n")
    assert rerun.run("toy", [["run.py", "30.0"]]) == ["no committed row was made again"]
    assert (folder / "results.csv").read_text() == "row,psnr\nb,30.0\n"
    with pytest.raises(UserError, match="toy needs paper="):
        rerun.commands_of("toy", {})
