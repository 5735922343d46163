"""Sweeps by their real command line: launchers with two workers, failures, continuing, searching.

Jobs train as little as there is; what is under test is how they are run, reported and collected.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

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
@pytest.mark.timeout(1500)  # jobs import everything again, on CPUs that may be busy
def test_a_failed_job_is_reported_and_only_that_one_runs_again(thadistill: Command, tmp_path: Path) -> None:  # noqa: F811
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
    assert rows["wide"]["error"].startswith(f"{WIDTH}=wide; expected a number above 0")
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
@pytest.mark.timeout(1500)  # jobs import everything again, on CPUs that may be busy
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
def test_a_search_of_two_trials(thadistill: Command, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("optuna")
    search = ("distill", "-m", *TOY, "hparams_search=student", "hydra.sweeper.n_trials=2", f"{WIDTH}=choice(0.1,0.15)")
    search += ("student.body_rotator.depth=2", "student.face_morpher.width=16", "hydra.sweeper.n_jobs=2")
    search += ("hydra/launcher=joblib", "hydra.launcher.workers=2")
    done = thadistill(*search)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "study of 2 trials, on its Pareto front:" in done.stderr
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("pull=x/y,x_y", "hydra/launcher=joblib"), "would share the folder pull=x_y"),
        (("pull=x,y", "hydra/launcher=joblib", "hydra.launcher.workers=many"), "hydra.launcher.workers"),
        (("pull=x,y", "hydra/launcher=submitit"), "expected SLURM here"),
        (("pull=x", "out="), "out=; expected a folder"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_one_line(
    overrides: tuple[str, ...],
    message: str,
    thadistill: Command,  # noqa: F811
) -> None:
    if "submitit" in overrides[-1]:
        pytest.importorskip("submitit")
    done = thadistill("assets", "-m", *overrides)
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.startswith("thadistill: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


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


def test_jobs_run_in_any_folder_and_import_nothing_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "it's (mine) [v2]"
    folder.mkdir()
    (folder / "queue.py").write_text("raise SystemExit('not the one of Python')")
    command = [sys.executable, "-P", "-m", "thadistill.cli", "assets", "-m", "pull=a=1,b (2),a=1", "out=sw [a]"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stderr.count("started, prints to") >= 2
    records = [json.loads(path.read_text()) for path in sorted((folder / "sw [a]").rglob("job.json"))]
    assert [record["error"].partition(";")[0] for record in records] == [
        "no asset is called 'a=1'",
        "no asset is called 'b (2)'",
    ]
    with (folder / "sw [a]" / "results.csv").open() as file:
        assert [row["pull"] for row in csv.DictReader(file)] == ["a=1", "b (2)"]


def orphan(job: str, how: signal.Signals, folder: Path) -> int:
    """Starts a command that starts a job, which runs ``job``, and ends the command; gives the job's process."""
    begin = (
        "import ctypes, os, pathlib, time; from thadistill.processes import end_with_parent; end_with_parent()\n"
        "pathlib.Path('new').write_text(str(os.getpid())); os.rename('new', 'runs')\n"
    )
    command = (
        "import os, subprocess, sys; from thadistill.processes import environment_of_job\n"
        f"subprocess.run([sys.executable, '-c', {begin + job!r}], env={{**os.environ, **environment_of_job()}})"
    )
    parent = subprocess.Popen([sys.executable, "-c", command], cwd=folder)
    assert within(60, (folder / "runs").exists)
    parent.send_signal(how)
    parent.wait()
    return int((folder / "runs").read_text())


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something holds before so many seconds are over."""
    limit = time.monotonic() + seconds
    while not holds() and time.monotonic() < limit:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_the_command_that_started_it(how: signal.Signals, tmp_path: Path) -> None:
    orphan("try:\n    time.sleep(300)\nexcept KeyboardInterrupt:\n    pathlib.Path('saved').touch()", how, tmp_path)
    assert within(20, (tmp_path / "saved").exists)


def test_a_job_that_cannot_be_interrupted_ends_too(tmp_path: Path) -> None:
    # a call into C that keeps Python's lock, as soon as the interruption comes
    job = "try:\n    time.sleep(300)\nexcept KeyboardInterrupt:\n    ctypes.PyDLL(None).sleep(300)"
    process = orphan(job, signal.SIGKILL, tmp_path)
    assert within(20, lambda: not alive(process))


def alive(process: int) -> bool:
    """Whether a process that is not ours runs; one that is over and waits for its parent's notice does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_is_not_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thadistill.sweeps.job._PATIENCE", 0.1)
    job = Job("assets", (), tmp_path / "job", tmp_path, "0" * 16)
    job.folder.mkdir()
    with FileLock(job.folder / ".lock"):
        result = run(job)
    assert result.error is not None
    assert result.error.startswith("runs already, started by another command")
    assert not (job.folder / "job.log").exists()
    assert run(job).error is None  # the other one is gone


def test_a_job_knows_the_folders_of_configs(tmp_path: Path) -> None:
    (tmp_path / "own" / "hparams_search").mkdir(parents=True)
    text = "# @package _global_\nhydra: {job: {name: mine}}\n"
    (tmp_path / "own" / "hparams_search" / "mine.yaml").write_text(text)
    command = [sys.executable, "-m", "thadistill.cli", "assets", "-m", "--config-dir", "own", "hparams_search=mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "job 0: done" in done.stderr
