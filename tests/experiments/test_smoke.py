"""Every experiment file and every runner, as they are, at toy scale on the puppet teacher; new ones are found by glob."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from thadistill.cli import main
from thadistill.config import compose, conf_dir
from thadistill.data.character import puppet
from thadistill.data.poses import sample_poses
from thadistill.pipeline.teacher import build_module, named_networks
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.tables import Command
from thadistill.tables.ledger import SCALES, read_rows

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
        *("RUN", "MODEL", "--runtimes", "eager", "folded", "--frames", "2", "--warmup", "1", "--checked", "1"),
        *("--held-out", "1", "--threads", "1", "--startup", "folded", "--track", "TRACK", "--track-frames", "4"),
        *("--flicker-frames", "2", "--teacher", "puppet", "--character", "puppet", "--teacher-pairs", "1"),
    ],
    "table1_teacher": [
        "--characters",
        "1",
        "--poses",
        "1",
        "--count",
        "1",
        "--trained",
        "TEACHER",
        "--trained",
        "FACES",
    ],
    "teacher_on_puppets": ["--minutes", "0.1", "--train", "2", "--test", "2", "--poses", "2"],
    "distill_speed": ["toy", "--minutes", "0.1", *TOY],
    "latency": ["MODEL", "--seconds", "1.5", "--minutes", "0.02", "--runtime", "folded"],
    "web_player": ["toy=MODEL", "--seconds", "0.2", "--rounds", "1"],
    "gpu": ["--device", "cpu", "--minutes", "0.1", "--frames", "5", "--ddp", "2", *TOY],
    "machines": ["--seconds", "0.05", "--instructions", "native"],
    "prepare": ["trials=1"],
    "table8_unet": [],
    "table2_teacher_speed": ["--teacher", "THA3 separable_float", "--frames", "1", "--warmup", "0"],
}
# THA3's: from the machine's own cache folder, fetched where it is empty
NEEDS_WEIGHTS = {"machines", "prepare", "table2_teacher_speed"}


PROCESSES = {"web_player"}  # Playwright needs a thread without an event loop


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, and one thread, so no background worker, here and in the processes that it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")


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
    if scale == "cpu":  # what differs between seeds is the training, not what it is given
        again, _ = Command(experiment, scale, tuple(module)).composed(name, "a row", [], seed=1)
        assert (config.seed, again.seed, again.recipe.targets.poses.seed) == (0, 1, 0)
    assert config.student.body_rotator.sizes == [512, 512, 512]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_file_runs(experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    for word in ("command:", "duration:", "result:"):
        assert word in text, f"the header says no {word}"
    name, *module = verb(experiment)
    for command in ("distill", "train"):  # their budgets count from the start of a process
        monkeypatch.setattr(f"thadistill.cli.{command}.STARTED", time.monotonic())
    monkeypatch.setattr(sys, "argv", ["thadistill"])
    main([name, f"experiment={experiment}", *module, *TOY, *SHORT])
    assert list((tmp_path / "run").rglob("final.ckpt"))


@pytest.mark.timeout(1800)  # several trainings each
@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_runs(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / runner
    # a copy, as runners write into their own folder; without what was measured, so that everything is made
    ignored = shutil.ignore_patterns("*.png", "table.md", "results.csv", "speed.csv", "outputs")
    shutil.copytree(ROOT / "experiments" / runner, folder, ignore=ignored)
    arguments = list(ARGUMENTS.get(runner, SMOKE.get(runner, ["scale=smoke"])))
    for word, make in MADE.items():
        if any(argument.split("=")[-1] == word for argument in arguments):
            made = str(make(tmp_path))
            arguments = [re.sub(rf"(^|=){word}$", lambda found: found[1] + made, one) for one in arguments]  # noqa: B023
    if runner not in NEEDS_WEIGHTS:
        request.getfixturevalue("own_cache")
    if runner in PROCESSES:
        subprocess.run([sys.executable, str(folder / "run.py"), *arguments], check=True)
    else:
        run_script(folder / "run.py", arguments, monkeypatch)
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    if runner not in ARGUMENTS:
        assert {row["scale"] for row in rows} == {"smoke"}
        table = (folder / "table.md").read_text()
        assert "## scale=smoke" in table
        with (folder / "paper.csv").open(newline="") as file:
            assert all(f"| {row['row']} |" in table for row in csv.DictReader(file))
    if runner in CHECKS:
        CHECKS[runner](folder)


def run_script(path: Path, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``python PATH ARGUMENTS``, in this process: nothing is imported again but what lies next to the script."""
    before = {*sys.modules}
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *arguments])
        patch.syspath_prepend(str(path.parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            for name in {*sys.modules} - before:
                if Path(getattr(sys.modules[name], "__file__", None) or "").parent == path.parent:
                    del sys.modules[name]


def toy_model(folder: Path) -> Path:
    """A character-model folder of small, untrained networks, of the puppet."""
    torch.manual_seed(0)
    model = CharacterModel(puppet().image, FaceMorpher(width=16, depth=3), BodyRotator(width_scale=0.1))
    return model.save(folder / "model")


def toy_run(folder: Path) -> Path:
    """What distill leaves: a model folder and its figures."""
    run = folder / "run"
    shutil.copytree(toy_model(folder), run / "character_model")
    figures = {"psnr": 20.0, "character": "puppet_0", "teacher": "puppet_0", "recipe": "fast", "budget_minutes": 1}
    (run / "metrics.json").write_text(json.dumps(figures))
    return run


def toy_teacher(out: Path, *stage: str) -> Path:
    """An untrained network as ``train module=teacher`` leaves it."""
    few = ["triples.train_characters=1", "triples.test_characters=1", "triples.poses=1"]
    out.mkdir()
    config = compose("train", ["module=teacher", *stage, *few, f"out={out}"])
    OmegaConf.save(config, out / "config.yaml", resolve=True)
    for name, network in named_networks(config.stage.name, build_module(config).network).items():
        torch.save(network.state_dict(), out / f"{name}.pt")
    return out


def toy_upscaler(folder: Path) -> Path:
    """On a body morpher, whose place is recorded as it was typed."""
    toy_teacher(folder / "body", "stage=small")
    return toy_teacher(folder / "upscaler", "stage=small_upscaler", "stage.coarse=body")


def toy_face_stages(folder: Path) -> Path:
    """All three of a face."""
    return toy_teacher(folder / "faces", "stage=small_face_stages")


def toy_track(folder: Path) -> Path:
    """A few poses in a row."""
    path = folder / "track.npy"
    np.save(path, sample_poses(6, seed=3).numpy())
    return path


MADE: dict[str, Callable[[Path], Path]] = {
    "MODEL": toy_model,
    "RUN": toy_run,
    "TRACK": toy_track,
    "TEACHER": toy_upscaler,
    "FACES": toy_face_stages,
}


def check_frame_rate(folder: Path) -> None:
    """What its runner measured of the run and the model, and the table that is made of it."""
    results, region, track, startup = (
        read_rows(folder / f"{name}.csv") for name in ("results", "region", "track", "startup")
    )
    assert [row["model"] for row in results] == ["run", "run", "model", "model"]
    assert [row["psnr_to_teacher"] for row in results] == ["20.0", "20.0", "", ""]
    assert {row["body_widths"] for row in results} == {"36-18-9"}
    assert [(row["model"], row["runtime"]) for row in track] == [
        (model, runtime) for model in ("run", "model") for runtime in ("reduced", "exact")
    ]
    # an untrained student moves otherwise than its teacher, which moves by itself
    assert all(float(row["teacher_change_levels"]) > 0 for row in track)
    assert all(float(row["flicker_to_teacher_levels"]) > 0 for row in track)
    for kind in ("cold", "warm"):
        parts = sum(
            float(startup[0][f"{kind}_{part}_s"]) for part in ("import", "load", "compile_model", "first_frame")
        )
        # milliseconds are rounded part by part
        assert parts == pytest.approx(float(startup[0][f"{kind}_total_s"]), abs=0.005)
    assert {row["model"] for row in region} == {"run", "model"}
    subprocess.run([sys.executable, str(folder / "report.py")], check=True)
    table = (folder / "table.md").read_text()
    assert "`folded` needs no compiling" in table
    assert "no plot" in table  # of two students only one says how good it is


def check_table1(folder: Path) -> None:
    """Its rows; untrained networks begin near the identity, and what is enlarged is blurred."""
    rows = read_rows(folder / "results.csv")
    assert [(row["teacher"], row["size"]) for row in rows] == [
        *(("identity", "512"), ("identity", "128"), ("body morpher, enlarged", "128"), ("upscaler", "128")),
        *(("identity, faces", "512"), ("face stages", "512")),
    ]
    _, unmoved, enlarged, upscaler, rest, face = (float(row["psnr"]) for row in rows)
    assert upscaler == pytest.approx(unmoved, abs=1)
    assert abs(enlarged - unmoved) > 0.1
    assert 0 < rest - face < 6


def check_table8(folder: Path) -> None:
    """Both networks are the paper's in all it says of them."""
    assert (folder / "table.md").read_text().count("| the same |") == 6


CHECKS: dict[str, Callable[[Path], None]] = {
    "frame_rate": check_frame_rate,
    "table1_teacher": check_table1,
    "table8_unet": check_table8,
}
