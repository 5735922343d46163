"""The main job by its real command line, on the embedded teacher at toy size: distil, interrupt, continue, evaluate."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from thadistill.student import CharacterModel

from .conftest import Command

TOY = (
    "teacher=puppet",
    "student.body_rotator.width_scale=0.2",
    "student.face_morpher.width=32",
    "recipe.targets.posed=16",
    "recipe.targets.face=16",
    "evaluation.poses=3",
    "validation.poses=1",
    "validation.checks=1",
    "trainer=cpu",
)
KEYS = ["n", "psnr", "psnr_display", "ssim", "face_psnr", "eye_mouth_psnr", "flow_epe_px", "stlpips", "lpips"]


def test_from_nothing_to_a_student_and_its_figures(
    thadistill: Command, thadistill_here: Command, tmp_path: Path
) -> None:
    done = thadistill("distill", *TOY, "budget_minutes=0.4", "out=run")
    assert done.returncode == 0, done.stderr[-2000:]
    out = tmp_path / "run"
    metrics = json.loads((out / "metrics.json").read_text())
    assert [key for key in metrics if key in KEYS] == KEYS
    assert metrics["n"] == 3
    assert metrics["lpips"] is None
    assert metrics["lpips_reason"]
    assert all(math.isfinite(metrics[key]) for key in KEYS[:7])
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert abs(sum(float(row["psnr"]) for row in rows) / 3 - metrics["psnr"]) < 1e-4
    report = (out / "report.md").read_text()
    assert f"{metrics['psnr']:.3f} dB" in report
    with Image.open(out / "preview.png") as picture:
        assert picture.width == 3 * 320
    model = CharacterModel.load(out / "character_model")
    assert model.size_mb < 0.5
    for folder in ("face", "body"):
        assert (out / folder / "final.ckpt").is_file()
        assert list((out / folder / "grids").glob("*.png"))
        assert "val/psnr" in (out / folder / "metrics.csv").read_text()

    again = thadistill_here("distill", *TOY, "budget_minutes=0.4", "out=run")
    assert again.returncode == 0
    assert "is done already" in again.stderr
    other = thadistill_here("distill", *TOY, "budget_minutes=0.4", "out=run", "seed=1")
    assert other.returncode == 2
    assert "holds a run with key" in other.stderr

    evaluated = ("evaluate", "model=run/character_model", "teacher=puppet", "n=3", "perceptual=[]", "out=judged")
    judged = thadistill_here(*evaluated)
    assert judged.returncode == 0, judged.stderr[-2000:]
    found = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    # the same poses as the run's own evaluation, whose targets passed through float16
    assert abs(found["psnr"] - metrics["psnr"]) < 0.02
    assert (tmp_path / "judged" / "grid.png").is_file()

    timed = thadistill_here("benchmark", "model=run/character_model", "runtime=eager,folded", "frames=5", "out=timed")
    assert timed.returncode == 0, timed.stderr[-2000:]
    rows = json.loads(timed.stdout.splitlines()[-1])
    assert [row["runtime"] for row in rows] == ["eager", "folded"]
    assert rows[1]["psnr_to_eager"] > 70
    assert (tmp_path / "timed" / "benchmark.csv").read_text().count("\n") == 3


@pytest.mark.parametrize("worker", [False, True])
def test_an_interrupted_run_continues_where_it_was(thadistill_here: Command, tmp_path: Path, worker: bool) -> None:
    command = ["distill", *TOY, "budget_minutes=0.8", f"recipe.background_worker={worker}", "evaluation.speed=false"]
    command.append("out=run")
    process = subprocess.Popen(
        [sys.executable, "-c", "from thadistill.cli import main; main()", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    record, worker_record = tmp_path / "run" / "run.json", tmp_path / "run" / "face" / "run.json"
    limit = time.monotonic() + 300
    while time.monotonic() < limit and process.poll() is None:
        # the rotator's training begins, and the second process has its targets
        if record.is_file() and "body_minutes" in record.read_text() and (worker_record.is_file() or not worker):
            break
        time.sleep(0.1)
    time.sleep(1)
    assert process.poll() is None, "the run ended before it could be interrupted"
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in printed
    assert "same command continues" in printed
    state = json.loads(record.read_text())
    face = tmp_path / "run" / "face" / "final.ckpt"
    assert worker_record.is_file() == worker
    before = None if worker else face.stat().st_mtime_ns
    planned = json.loads(worker_record.read_text())["plan"] if worker else {}
    done = thadistill_here(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    after = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["plan"].items() <= after["plan"].items()  # the same schedule
    assert (tmp_path / "run" / "metrics.json").is_file()
    if worker:
        assert planned.items() <= json.loads(worker_record.read_text())["plan"].items()
        assert [row["name"] for row in after["worker"]][-1] == "face morpher"
    else:
        assert face.stat().st_mtime_ns == before  # what was finished is not trained again


def test_what_fails_in_the_worker_ends_the_run(thadistill_here: Command, tmp_path: Path) -> None:
    nothing = "recipe.face_morpher.stream._target_=thadistill.data.sampling.Nothing"
    with pytest.raises(RuntimeError, match=r"the second process \(teacher, face morpher\) ended with status 1"):
        thadistill_here("distill", *TOY, nothing, "budget_minutes=1.2", "out=run")
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("module", ["face_morpher", "body_rotator"])
def test_train_runs_one_module(thadistill_here: Command, tmp_path: Path, module: str) -> None:
    toy = [key for key in TOY if not key.startswith("evaluation")]
    done = thadistill_here("train", f"module={module}", *toy, "budget_minutes=0.05", "out=run", "logger=wandb_offline")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "final.ckpt").is_file()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_a_sweep_leaves_a_folder_per_job(thadistill_here: Command, tmp_path: Path) -> None:
    done = thadistill_here(
        *(
            "distill",
            "-m",
            *TOY,
            "budget_minutes=0.05",
            "evaluation.speed=false",
            "student.body_rotator.width_scale=0.1,0.15",
        )
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reports = sorted((tmp_path / "multirun").rglob("report.md"))
    assert len(reports) == 2
    assert "width_scale=0.1" in str(reports[0])


def test_prepare_makes_what_distill_takes(thadistill_here: Command, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (800, 1200))
    picture.paste("orange", (300, 100, 500, 1100))
    picture.save(tmp_path / "tall.png")
    done = thadistill_here(
        "prepare", "image=tall.png", "head=[300,100,500,300]", "face_mask=false", "teacher=puppet", "out=mine"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(tmp_path / "mine" / "character.png") as made:
        assert (made.size, made.mode) == ((512, 512), "RGBA")
        # the head's box of 200 pixels fills the 128 of the rules, and the outline is where it says
        solid = made.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
        assert solid.getbbox() == (192, 64, 320, 512)
    refused = thadistill_here("prepare", "image=tall.png", "head=[0,0,9000,10]", "teacher=puppet", "out=other")
    assert refused.returncode == 2
    assert not (tmp_path / "other").exists()
