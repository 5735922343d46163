"""Sweeps by their real command line: launchers with two workers, failures, continuing, searching.

Jobs train as little as there is; what is under test is how they are run, told and collected.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command, thadistill  # noqa: F401
from thadistill.config import folder_name
from thadistill.sweeps.job import Job, run
from thadistill.sweeps.launchers import share_cores

TOY = (
    "teacher=puppet",
    "recipe.targets.posed=16",
    "recipe.targets.face=16",
    "student.face_morpher.width=32",
    "evaluation.poses=2",
    "validation.checks=0",
    "trainer=cpu",
    "budget_minutes=0.1",
)
WIDTH = "student.body_rotator.width_scale"


def table(folder: Path) -> dict[str, dict[str, str]]:
    """results.csv by the value of its first override that varies."""
    with (folder / "results.csv").open() as file:
        return {row[WIDTH]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.timeout(1500)  # jobs import everything anew, on CPUs that may be busy
def test_a_failed_job_is_told_and_only_that_one_runs_again(thadistill: Command, tmp_path: Path) -> None:  # noqa: F811
    sweep = ("distill", "-m", *TOY, f"{WIDTH}=0.1,wide", "hydra/launcher=joblib", "hydra.launcher.workers=2")
    done = thadistill(*sweep)
    folder = tmp_path / "multirun" / "distill"
    assert done.returncode == 1, done.stderr[-2000:]
    assert "joblib: 2 jobs, 2 workers" in done.stderr
    assert "1 of 2 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr
    rows = table(folder)
    assert (rows["0.1"]["status"], rows["0.1"]["error"]) == ("done", "")
    assert float(rows["0.1"]["student_ms"]) > 0
    assert float(rows["0.1"]["teacher_ms"]) > 0
    assert rows["0.1"]["pareto"] == "True"
    assert rows["wide"]["status"] == "failed"
    assert rows["wide"]["error"] in done.stderr
    assert "BodyRotator" in rows["wide"]["error"]
    assert (folder / "pareto.png").is_file()
    good = folder / rows["0.1"]["run"]
    before = (good / "metrics.json").stat().st_mtime_ns
    log = next(folder.glob("*wide*")) / "job.log"
    first = log.stat().st_mtime_ns

    again = thadistill(*sweep)
    assert again.returncode == 1
    assert "done already" in again.stderr
    assert (good / "metrics.json").stat().st_mtime_ns == before
    assert log.stat().st_mtime_ns > first


@pytest.mark.slow
@pytest.mark.timeout(1500)  # jobs import everything anew, on CPUs that may be busy
@pytest.mark.parametrize(
    ("launcher", "library"),
    [
        (("hydra/launcher=ray", "hydra.launcher.init.num_cpus=2"), "ray"),
        (("hydra/launcher=submitit_local",), "submitit"),
    ],
    ids=["ray", "submitit"],
)
def test_launchers_with_two_workers(
    thadistill: Command,  # noqa: F811
    tmp_path: Path,
    launcher: tuple[str, ...],
    library: str,
) -> None:
    pytest.importorskip(library)
    # benchmark fails at once without a model: two jobs, two lost, each with its own word
    done = thadistill("benchmark", "-m", "model=absent,gone", *launcher)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "2 of 2 jobs failed" in done.stderr
    for name in ("absent", "gone"):
        record = json.loads((tmp_path / "multirun" / "benchmark" / f"model={name}" / "job.json").read_text())
        assert record["error"].startswith(f"{name} has no character_model.yaml")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_search_of_three_trials(thadistill: Command, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("optuna")
    search = ("distill", "-m", *TOY, "hparams_search=student", "hydra.sweeper.n_trials=3", f"{WIDTH}=choice(0.1,0.15)")
    search += ("student.body_rotator.depth=2", "student.face_morpher.width=16", "hydra.sweeper.n_jobs=2")
    search += ("hydra/launcher=joblib", "hydra.launcher.workers=2")
    done = thadistill(*search)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "study of 3 trials, on its Pareto front:" in done.stderr
    rows = table(tmp_path / "multirun" / "distill")
    assert all(row["status"] == "done" and float(row["student_ms"]) > 0 for row in rows.values())
    assert all(row["student.face_morpher.width"] == "16" for row in rows.values())  # the later value stands


def test_a_job_that_is_killed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # an interpreter that ends itself stands for one that ran out of memory
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -9 $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("thadistill.sweeps.job.sys.executable", str(killer))
    result = run(Job("distill", (), tmp_path / "job", tmp_path, "0" * 16))
    assert result.error == "ended by SIGKILL: was memory short?"
    assert json.loads((tmp_path / "job" / "job.json").read_text())["status"] == "failed"


def test_workers_share_the_cores() -> None:
    assert share_cores(None, 8, 2) == (2, 1)
    assert share_cores(None, 8, 16) == (8, 2)
    assert share_cores(None, 3, 16) == (3, 5)
    assert share_cores(4, 1, 16) == (1, 16)
    assert share_cores(4, 9, 2) == (4, 1)


def test_folder_names_are_file_names() -> None:
    assert folder_name("a=1,b='/x/y'") == "a=1,b=_x_y"
    long = [folder_name("k=" + "é" * 300 + end) for end in "ab"]
    assert len({*long}) == 2
    assert all(len(name.encode()) <= 255 for name in long)
