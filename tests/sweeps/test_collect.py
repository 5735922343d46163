"""Collection and the Pareto front, against its definition."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from thadistill.errors import UserError
from thadistill.sweeps import collect, markdown_table, pareto_front, read_runs


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_run_beats(seed: int) -> None:
    draw = random.Random(seed)
    # few distinct values, so that ties and equal runs occur
    points = [(float(draw.randint(0, 6)), float(draw.randint(0, 6))) for _ in range(draw.randint(1, 30))]
    beaten = [any(q >= p[0] and c <= p[1] and (q > p[0] or c < p[1]) for q, c in points) for p in points]
    assert pareto_front([q for q, _ in points], [c for _, c in points]) == [not it for it in beaten]


def test_runs_without_figures_are_not_on_the_front() -> None:
    assert pareto_front([None, 1.0, float("nan"), 2.0], [1.0, 5.0, 0.0, None]) == [False, True, False, False]


def run(folder: Path, overrides: list[str], **figures: Any) -> None:
    folder.mkdir(parents=True)
    steps = [{"name": "start", "minutes": 0.25}, {"name": "training", "minutes": 1.5}]
    (folder / "metrics.json").write_text(json.dumps({**figures, "overrides": overrides, "steps": steps}))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two characters at two widths, one of them failed, and one that was stopped."""
    for name, width, psnr, ms in (("a", 0.5, 28.0, 10.0), ("a", 1, 30.0, 20.0), ("b", 1, 25.0, 30.0)):
        given = [f"character={name}", f"student.width={width}", "recipe=fast"]
        run(tmp_path / f"{name}{width}", given, character=name, recipe="fast", psnr=psnr, student_ms=ms, seed=0)
    failed = tmp_path / "b0.5"
    failed.mkdir()
    record = {"status": "failed", "error": "it | broke", "overrides": ["character=b", "student.width=0.5"]}
    (failed / "job.json").write_text(json.dumps(record))
    (tmp_path / "a1" / "face").mkdir()
    (tmp_path / "a1" / "face" / "run.json").write_text("{}")
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "run.json").write_text("{}")
    return tmp_path


def test_every_run_is_a_row_failed_ones_with_their_error(sweep: Path) -> None:
    rows = {row["run"]: row for row in read_runs(sweep)}
    assert sorted(rows) == ["a0.5", "a1", "b0.5", "b1", "stopped"]  # not the trainings within a run
    assert rows["a1"]["student.width"] == "1"
    assert rows["a1"]["minutes"] == 1.75
    assert (rows["b0.5"]["status"], rows["b0.5"]["error"], rows["b0.5"]["psnr"]) == ("failed", "it | broke", None)
    assert rows["b0.5"]["character"] == "b"
    assert rows["stopped"]["status"] == "unfinished"
    # b's slow run is beaten by a's, but a's student shows another character
    assert {name for name, row in rows.items() if row["pareto"]} == {"a0.5", "a1", "b1"}


def test_files_of_a_collection(sweep: Path, tmp_path: Path) -> None:
    rows = collect(sweep, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["run"] for row in read] == [row["run"] for row in rows]
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0].startswith("| student.width | character | psnr |")
    assert table[2].startswith("| 1 | a | 30.000 |")  # best first
    assert any("failed: it \\| broke" in line for line in table)
    assert len({line.replace("\\|", "").count("|") for line in table if line.startswith("|")}) == 1
    with Image.open(tmp_path / "out" / "pareto.png") as picture:
        assert picture.width > 500


def test_records_cut_short_are_failures(sweep: Path) -> None:
    (sweep / "a1" / "metrics.json").write_text('{"psnr": 3')
    rows = {row["run"]: row for row in read_runs(sweep)}
    assert (rows["a1"]["status"], rows["a1"]["error"]) == ("failed", "metrics.json is damaged")


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        collect(tmp_path)


def test_chosen_columns(sweep: Path) -> None:
    assert markdown_table(read_runs(sweep), ["run", "psnr"]).splitlines()[-1] == "| stopped | - |"
