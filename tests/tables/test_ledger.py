"""Ledger: rows made once, tables that say what holds and what is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from thadistill.errors import UserError
from thadistill.tables import Claim, Paper, make_rows, read_rows, write_table
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
        make_rows(path, "small", {"a": lambda: row("a", psnr=1.25), "b": broken})
    make_rows(path, "small", {"a": lambda: row("a"), "b": lambda: row("b", psnr=2.0, ms=3)})
    make_rows(path, "full", {"a": lambda: row("a", psnr=None)})
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
        Claim("a beats b", lambda r: r["a"]["psnr"] > r["b"]["psnr"]),
        Claim("b beats a", lambda r: r["b"]["psnr"] > r["a"]["psnr"]),
        Claim("c is there", lambda r: r["c"]["psnr"] > 0),
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
    assert "b beats a: **does not hold here**" in text
    assert "c is there: open, as 'c' is not measured" in text


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "seed=3", "scale=full"])
    assert read_command(Path("experiments/table9"), "about") == Command("table9", "full", ("seed=3",))
    monkeypatch.setattr("sys.argv", ["run.py", "rows=phase 3, phase 1"])
    command = read_command(Path("table9"), "about")
    assert list(command.chosen(dict.fromkeys(("phase 1", "phase 2", "phase 3"), dict))) == ["phase 1", "phase 3"]
    with pytest.raises(UserError, match="expected some of phase 1"):
        command.chosen({"phase 1": dict})
    for arguments, said in (
        (["--help"], "about"),
        (["full"], "not KEY=VALUE"),
        (["scale=tiny"], "expected one of full"),
    ):
        monkeypatch.setattr("sys.argv", ["run.py", *arguments])
        with pytest.raises(SystemExit, match=said):
            read_command(Path("table9"), "about")
