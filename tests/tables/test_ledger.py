"""Ledger: rows made once, tables that say what holds and what is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from thadistill.errors import UserError
from thadistill.tables import Claim, Paper, Row, Run, make_rows, read_rows, write_table
from thadistill.tables.ledger import spread
from thadistill.tables.runs import Command, read_command


def test_a_row_that_is_made_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    made: list[str] = []

    def row(name: str, **figures: object) -> dict[str, object]:
        made.append(name)
        return figures

    def broken() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_rows(path, "small", [Run("a", lambda: row("a", psnr=1.25)), Run("b", broken)])
    make_rows(path, "small", [Run("a", lambda: row("a")), Run("b", lambda: row("b", psnr=2.0, ms=3))])
    make_rows(path, "full", [Run("a", lambda: row("a", psnr=None))])
    assert made == ["a", "b", "a"]
    found = [(row["scale"], row["row"], row["psnr"], row["ms"]) for row in read_rows(path)]
    assert found == [("full", "a", "", ""), ("small", "a", "1.250", ""), ("small", "b", "2.000", "3")]


def test_a_table_has_the_papers_figures_next_to_ours_and_judges_the_claims(tmp_path: Path) -> None:
    (tmp_path / "paper.csv").write_text("row,psnr\na,38.9\nc,30.0\n")
    rows = [
        {"scale": "small", "row": "a", "psnr": "25.5", "n": "4", "hardware": "a box", "commit": "abc"},
        {"scale": "small", "row": "b", "psnr": "24.0", "n": "4", "hardware": "a box", "commit": "abc"},
    ]
    claims = [
        Claim("a beats b", lambda r: r["a"]["psnr"] - r["b"]["psnr"]),
        Claim("b beats a", lambda r: r["b"]["psnr"] - r["a"]["psnr"], "psnr"),
        Claim("c is there", lambda r: r["c"]["psnr"]),
    ]
    paper = Paper(tmp_path / "paper.csv", "Others.")
    write_table(tmp_path / "table.md", "T", "About.", paper, rows, ["psnr", "n", "absent"], claims)
    text = (tmp_path / "table.md").read_text()
    assert "| a | 38.9 | 25.5 |" in text
    assert "| b |  | 24.0 |" in text
    assert "| c | 30.0 |  |" in text
    assert "In every row: `n` 4." in text
    assert "absent" not in text
    assert "a beats b: **holds here**" in text
    assert "b beats a: **does not hold here** (by 1.50, one run a row)" in text
    assert "c is there: open, as 'c' is not measured" in text


def test_rows_of_several_seeds_are_made_apart_and_judged_with_their_spread(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    psnr = {("a", 0): 30.0, ("a", 1): 30.4, ("a", 2): 30.2, ("b", 0): 30.5, ("c", 0): 32.0}

    def make(command: Command, row: str, seed: int | None) -> Row:
        return {"psnr": psnr[row, seed or 0], "seed": seed or 0}

    runs = Command("table9", "cpu", ()).runs("abc", make, {"a": 3})
    assert [(run.row, run.seed) for run in runs] == [("a", 0), ("b", None), ("c", None), ("a", 1), ("a", 2)]
    rows = make_rows(path, "cpu", runs)
    assert [(row["row"], row["seed"]) for row in rows] == [("a", "0"), ("a", "1"), ("a", "2"), ("b", "0"), ("c", "0")]
    assert make_rows(path, "cpu", [Run("a", lambda: pytest.fail("is made"), seed) for seed in range(3)]) == rows
    with pytest.raises(UserError, match="seed=3; expected none at scale=cpu"):
        Command("table9", "cpu", ("seed=3",)).runs("abc", make, {"a": 3})
    assert spread([[row for row in rows if row["row"] == name] for name in "abc"], "psnr") == pytest.approx(0.2)
    (tmp_path / "paper.csv").write_text("row,psnr\na,38.9\n")
    claims = [
        Claim("b beats a", lambda r: r["b"]["psnr"] - r["a"]["psnr"], "psnr"),
        Claim("c beats a", lambda r: r["c"]["psnr"] - r["a"]["psnr"], "psnr"),
        Claim("a beats c", lambda r: r["a"]["psnr"] - r["c"]["psnr"], "psnr"),
    ]
    table = tmp_path / "table.md"
    write_table(table, "T", "About.", Paper(tmp_path / "paper.csv", "Others."), rows, ["psnr", "seed"], claims)
    text = table.read_text()
    assert "| a | 38.9 | 30.200 ± 0.200 | 0, 1, 2 |" in text
    assert "| b |  | 30.500 | 0 |" in text
    assert "b beats a: **not told apart here** (by 0.30, where runs spread by 0.20)" in text
    assert "c beats a: **holds here** (by 1.80, where runs spread by 0.20)" in text
    assert "a beats c: **does not hold here** (by 1.80" in text


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "seed=3", "scale=full"])
    assert read_command(Path("experiments/table9"), "about") == Command("table9", "full", ("seed=3",))
    monkeypatch.setattr("sys.argv", ["run.py", "rows=phase 3, phase 1"])
    command = read_command(Path("table9"), "about")
    chosen = command.runs(("phase 1", "phase 2", "phase 3"), lambda *_: {})
    assert [run.row for run in chosen] == ["phase 1", "phase 3"]
    with pytest.raises(UserError, match="expected some of phase 1"):
        command.runs(["phase 1"], lambda *_: {})
    for arguments, said in (
        (["--help"], "about"),
        (["full"], "not KEY=VALUE"),
        (["scale=tiny"], "expected one of full"),
    ):
        monkeypatch.setattr("sys.argv", ["run.py", *arguments])
        with pytest.raises(SystemExit, match=said):
            read_command(Path("table9"), "about")
