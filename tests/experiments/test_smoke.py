"""Every experiment file and every runner, as they are, at toy scale on the puppet teacher; new ones are found by glob."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from thadistill.cli.app import conf_dir
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.tables import Command
from thadistill.tables.ledger import SCALES

ROOT = Path(__file__).parent.parent.parent
EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
RUNNERS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/run.py"))
TOY = (
    *("teacher=puppet", "character=puppet", "trainer=cpu"),
    *("student.body_rotator.width_scale=0.1", "student.face_morpher.width=32"),
    *("recipe.targets.posed=16", "recipe.targets.face=16"),
    *("evaluation.poses=2", "evaluation.speed=false", "validation.poses=1", "validation.checks=1"),
)
SHORT = ("budget_minutes=0.1", "out=run")
SMOKE = {"table7_phases": ["scale=smoke", "rows=phases 1 to 3,phase 3"]}  # of seven alike
# runners older than the tables have command lines of their own; those of the tables take scale=smoke
ARGUMENTS = {
    "frame_rate": [
        *("MODEL", "--runtimes", "eager", "folded", "--frames", "2", "--warmup", "1", "--checked", "1"),
        *("--held-out", "0", "--threads", "1"),
    ],
    "table1_teacher": ["--characters", "1", "--poses", "1", "--count", "1"],
    "teacher_on_puppets": ["--minutes", "0.1", "--train", "2", "--test", "2", "--poses", "2"],
    "distill_speed": ["toy", "--minutes", "0.1", *TOY],
    "table2_teacher_speed": ["--teacher", "THA3 separable_float", "--frames", "1", "--warmup", "0"],
}
NEEDS_WEIGHTS = {"table2_teacher_speed"}  # THA3's: from the machine's own cache folder, fetched where it is empty


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "THADISTILL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def verb(experiment: str) -> list[str]:
    """What the file's header runs it with: distill, or train and its module."""
    header = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    found = re.search(r"thadistill (train)\b.*?(module=\w+)", header)
    return list(found.groups()) if found else ["distill"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_file_composes_at_every_scale(experiment: str, scale: str) -> None:
    name, *module = verb(experiment)
    config, out = Command(experiment, scale, tuple(module)).composed(name, "a row", ["student=single_resolution"])
    assert (config.scale, config.out, out.name) == (scale, str(out), "a_row")
    assert config.budget_minutes == config.minutes[scale]
    assert config.student.body_rotator.sizes == [512, 512, 512]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_file_runs(experiment: str, tmp_path: Path) -> None:
    text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    for word in ("command:", "duration:", "result:"):
        assert word in text, f"the header says no {word}"
    name, *module = verb(experiment)
    done = subprocess.run(
        [sys.executable, "-m", "thadistill.cli", name, f"experiment={experiment}", *module, *TOY, *SHORT],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "run").rglob("final.ckpt"))


@pytest.mark.timeout(1800)  # several trainings each
@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_runs(runner: str, tmp_path: Path) -> None:
    folder = tmp_path / runner
    # a copy, as runners write beside themselves; without what was measured, so that everything is made
    ignored = shutil.ignore_patterns("*.png", "table.md", "results.csv", "speed.csv", "outputs")
    shutil.copytree(ROOT / "experiments" / runner, folder, ignore=ignored)
    arguments = [
        str(toy_model(tmp_path)) if word == "MODEL" else word
        for word in ARGUMENTS.get(runner, SMOKE.get(runner, ["scale=smoke"]))
    ]
    done = subprocess.run(
        [sys.executable, str(folder / "run.py"), *arguments],
        cwd=tmp_path,
        env=os.environ if runner in NEEDS_WEIGHTS else environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    if runner not in ARGUMENTS:
        assert {row["scale"] for row in rows} == {"smoke"}
        table = (folder / "table.md").read_text()
        assert "## scale=smoke" in table
        with (folder / "paper.csv").open(newline="") as file:
            assert all(f"| {row['row']} |" in table for row in csv.DictReader(file))


def toy_model(folder: Path) -> Path:
    """A character-model folder of small, untrained networks."""
    torch.manual_seed(0)
    image = torch.full((4, 512, 512), -1.0)
    image[:, 100:400, 150:350] = 0.5
    model = CharacterModel(image, FaceMorpher(width=16, depth=3), BodyRotator(width_scale=0.1))
    return model.save(folder / "model")
