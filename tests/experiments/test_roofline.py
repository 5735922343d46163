"""The roofline's counts against closed forms, and its table from a row that was measured."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from thadistill.student import CharacterModel
from thadistill.student.body_rotator import BodyRotator
from thadistill.student.face_morpher import FaceMorpher

FOLDER = Path(__file__).parents[2] / "experiments" / "frame_rate"


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module: it stands outside the package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("roofline", "students"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("roofline")


@pytest.fixture(scope="module")
def paper() -> CharacterModel:
    """A student of the paper's sizes, untrained."""
    from thadistill.data.character import puppet

    return CharacterModel(puppet(0).image, FaceMorpher(), BodyRotator()).eval()


def test_counts(roofline: ModuleType, paper: CharacterModel) -> None:
    work = roofline.count_frame(paper, np.ones((512, 512), bool))
    face = 128**2 * (7 * 128 * 128 + 128 * 4)
    body = 128**2 * (360 * 360 + 360 * 180 + 180 * 180) + 256**2 * (180 * 180 + 180 * 90 + 90 * 90)
    body += 512**2 * (2 * 90 * 90 + 90 * 7)
    assert work.flops == 2 * (face + body)
    assert work.sines == 128**2 * (8 * 128 + 900) + 256**2 * 450 + 512**2 * 270
    assert work.flops < work.padded_flops < 1.3 * work.flops
    # at least the planes between the levels, written and read, the character and the frame
    assert work.bytes > 2 * 4 * (128**2 * 180 + 256**2 * 90) + 512**2 * (16 + 4)
    part = np.zeros((512, 512), bool)
    part[:256] = True
    assert 0.5 < (roofline.count_frame(paper, part).flops - 2 * face) / (2 * body) < 0.52  # and a row below it
    assert work.milliseconds(1e-12 * work.flops, 1e9) == pytest.approx(1e3)
    assert work.milliseconds(1e9, 1e-12 * work.bytes) == pytest.approx(1e3)


def test_table(
    roofline: ModuleType,
    paper: CharacterModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = paper.save(tmp_path / "paper")
    results = tmp_path / "results.csv"
    columns = {"model": "paper", "runtime": "half", "device": "cuda", "batch": "1", "ms_median": "0.5"}
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows([columns, {**columns, "runtime": "folded", "ms_median": "7"}])
    half = np.zeros((512, 512), bool)
    half[:, 256:] = True
    monkeypatch.setattr(roofline, "visible_of", lambda model: half)
    monkeypatch.setattr(sys, "argv", ["roofline.py", str(folder), "--results", str(results), "--peak-tflops", "100"])
    roofline.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| paper")]
    assert len(lines) == 2
    assert lines[0][7].strip() == ""
    assert lines[1][1] == "visible, 50%"
    assert lines[1][7] == "0.500"
    least = roofline.count_frame(paper, half).milliseconds(100, 4.8)
    assert lines[1][9] == f"{least / 0.5:.1%} |"
    assert "7.000" not in str(lines)
