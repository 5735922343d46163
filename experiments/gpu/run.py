"""GPU: everything that waits for one, in one command: correctness first, then frame rates, distillation, several GPUs.

    python experiments/gpu/run.py [--device cuda] [--minutes 4] [--student DIR] [distill's overrides]

Writes checks.csv, results.csv, distill.csv and ddp.csv next to itself, in the columns of experiments/frame_rate and
experiments/distill_speed, and table.md. A check that fails ends it before anything is timed. Some eight minutes.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig

import thadistill
from thadistill.config import compose
from thadistill.data.character import Character
from thadistill.data.poses import sample_poses
from thadistill.devices import resolve_device
from thadistill.errors import UserError
from thadistill.export.students import open_students, packaged_puppet
from thadistill.files import write_csv, write_text
from thadistill.metrics.benchmark import Candidate, measure_speeds
from thadistill.metrics.image import psnr
from thadistill.pipeline.fit import student_module
from thadistill.pipeline.report import environment
from thadistill.pipeline.targets import TargetSets
from thadistill.runtime import compile_model, resolve
from thadistill.student import CharacterModel
from thadistill.tables.ledger import markdown, read_rows
from thadistill.tables.runs import run_table
from thadistill.teacher import Teacher

HERE = Path(__file__).parent
ROOT = Path(thadistill.__file__).parents[1]  # the checkout
POSES = 16  # of the targets that a step is checked on
RUNTIMES = ("eager", "exact", "reduced")
GOAL_DB = 36.0  # the paper's students
# PSNR in dB that a runtime keeps to eager in float32, see the runtimes' own tests
KEEPS = {"exact": 70.0, "reduced": 45.0}

Row = dict[str, Any]


def run_checks(config: DictConfig, model: CharacterModel, device: torch.device) -> Iterator[Row]:
    """What must hold before a figure means something: name, figure, limit, whether it holds."""
    yield from runtime_checks(model, device)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device="cpu")
    moved: Teacher = hydra.utils.instantiate(config.teacher, device=str(device))
    image, pose = hydra.utils.instantiate(config.character).image[None], sample_poses(2, seed=7)
    with torch.inference_mode():
        theirs = moved(image.to(device), pose.to(device)).posed.cpu()
        found = float(psnr(theirs, teacher(image, pose).posed).mean())
    yield check("teacher on the device and on the CPU, PSNR in dB", found, 50.0)
    yield from step_checks(config, teacher, device)
    if device.type == "cuda":
        command = [sys.executable, "-m", "pytest", "-q", "-x", str(ROOT / "tests/runtime/test_half.py")]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        yield check("tests of the Triton kernels pass", float(status == 0), 1.0)


def runtime_checks(model: CharacterModel, device: torch.device) -> Iterator[Row]:
    """Each runtime's frames on the device against the student in float32 on the CPU."""
    poses = sample_poses(8, seed=5)
    with torch.inference_mode():
        expected = torch.cat([model(pose).posed for pose in poses.split(1)])
    for runtime, limit in KEEPS.items():
        fast = compile_model(copy.deepcopy(model).to(device), runtime)
        frames = torch.cat([fast(pose.to(device)).posed.cpu() for pose in poses.split(1)])
        name = resolve(runtime, device.type)
        yield check(
            f"runtime {runtime} ({name}) against eager on the CPU, PSNR in dB",
            float(psnr(frames, expected).mean()),
            limit,
        )


def step_checks(config: DictConfig, teacher: Teacher, device: torch.device) -> Iterator[Row]:
    """A training step of both students on one batch: loss and gradient on the device against the CPU's."""
    character: Character = hydra.utils.instantiate(config.character)
    few = copy.deepcopy(config)
    few.recipe.targets.posed = few.recipe.targets.face = POSES
    sets = TargetSets(few, teacher, character.image, None).complete("posed", "face")
    patches = hydra.utils.instantiate(few.recipe.body_rotator.stream)
    pixels = hydra.utils.instantiate(few.recipe.face_morpher.stream)
    streams = {
        "face_morpher": pixels(sets["face"], torch.ones(1, 128, 128), batch_size=4, error_share=0.0),
        "body_rotator": patches(sets["posed"], batch_size=4, error_share=0.0),
    }
    given: dict[str, dict[str, Any]] = {"face_morpher": {}, "body_rotator": {"image": character.image}}
    for name, stream in streams.items():
        torch.manual_seed(0)
        module = student_module(few, name, **given[name])
        batch = next(iter(stream))
        results = []
        for place in (torch.device("cpu"), device):
            own = copy.deepcopy(module).to(place)
            loss = own.losses(type(batch)(*(part.to(place) for part in batch)))["loss"]
            loss.backward()
            gradient = torch.cat([p.grad.flatten().cpu() for p in own.network.parameters() if p.grad is not None])
            results.append((float(loss), gradient))
        (mine, here), (theirs, there) = results
        yield check(f"{name}: 1 - relative difference of a step's loss", 1 - abs(theirs - mine) / abs(mine), 0.999)
        cosine = float(torch.nn.functional.cosine_similarity(here, there, dim=0))
        yield check(f"{name}: cosine of a step's gradients", cosine, 0.999)


def check(name: str, figure: float, at_least: float) -> Row:
    """A row of checks.csv."""
    row = {"check": name, "figure": round(figure, 5), "at_least": at_least, "holds": figure >= at_least}
    print(f"{name}: {figure:.5g}, expected at least {at_least:g}", flush=True)
    return row


def time_frames(config: DictConfig, model: CharacterModel, device: torch.device, frames: int) -> list[Row]:
    """Frame times of the student's runtimes and of the teacher, each kind interleaved."""
    poses = sample_poses(40, seed=31).to(device)
    placed = copy.deepcopy(model).to(device)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=str(device))
    image = hydra.utils.instantiate(config.character).image[None].to(device)

    def drawn(pose: torch.Tensor) -> object:
        with torch.inference_mode():
            return teacher(image.expand(len(pose), -1, -1, -1), pose).posed

    students = {name: Candidate(lambda name=name: compile_model(placed, name).rgba8) for name in RUNTIMES}
    rows = []
    alone = {teacher.name: Candidate(lambda: drawn)}
    for batch, candidates in ((1, students), (1, alone), (8, alone)):
        for name, speed in measure_speeds(candidates, poses, batch=batch, frames=frames).items():
            runtime = resolve(name, device.type) if name in students else "teacher"
            rows.append({"model": name, "runtime": runtime, **speed.row(), "commit": environment()["commit"]})
            print(f"{name} ({runtime}), batch {batch}: {speed.ms_median:.2f} ms", flush=True)
    return rows


def distil(device: torch.device, minutes: float, overrides: Sequence[str], folder: Path) -> None:
    """The measured command of experiments/distill_speed, its rows into distill.csv."""
    trainer = "gpu" if device.type == "cuda" else "cpu"
    command = [sys.executable, str(ROOT / "experiments/distill_speed/run.py"), trainer, "--minutes", str(minutes)]
    command += ["--keep", str(minutes / 16), "--results", str(folder / "distill.csv"), f"trainer={trainer}", *overrides]
    subprocess.run(command, cwd=ROOT, check=True)


def train_on_several(count: int, minutes: float, overrides: Sequence[str], cpu: bool, folder: Path) -> list[Row]:
    """The body rotator alone, on one device and on ``count``, for the same minutes: steps, and PSNR on validation poses."""
    rows = []
    for devices in (1, count):
        out = folder / "outputs" / f"ddp_{devices}"
        command = [sys.executable, "-m", "thadistill.cli", "train", "module=body_rotator", f"trainer.devices={devices}"]
        command += [
            "trainer=ddp" if devices > 1 else "trainer=default",
            f"trainer.accelerator={'cpu' if cpu else 'gpu'}",
        ]
        command += [f"budget_minutes={minutes}", f"out={out}", *overrides]
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run(command, cwd=ROOT, check=True)
        content = torch.load(out / "final.ckpt", map_location="cpu", weights_only=True)
        metrics = json.loads((out / "metrics.json").read_text())
        rows.append(
            {
                "devices": devices,
                "budget_minutes": minutes,
                "steps": content["global_step"],
                "val_psnr": metrics["val_psnr"],
            }
        )
    return rows


def write_report(about: Mapping[str, str], folder: Path) -> None:
    """table.md, of the CSV files alone."""
    parts = ["# On a GPU", f"Generated by run.py. {about['hardware']}, commit {about['commit']}."]
    for title, name in (("Checks", "checks"), ("Frame times", "results"), ("Several devices", "ddp")):
        rows = read_rows(folder / f"{name}.csv")
        if rows:
            parts += [f"## {title}", markdown(list(rows[0]), [list(row.values()) for row in rows])]
    rows = read_rows(folder / "distill.csv")
    if rows:
        parts += ["## Distillation", markdown(["minutes", "psnr"], [[row["minutes"], row["psnr"]] for row in rows])]
        reached = next((row["minutes"] for row in rows if float(row["psnr"]) >= GOAL_DB), None)
        parts.append(f"{GOAL_DB:g} dB, the paper's: " + (f"after {reached} minutes." if reached else "not reached."))
    write_text(folder / "table.md", "\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=4.0, help="the budget of the distillation")
    parser.add_argument("--student", type=Path, help="a character-model folder to time; else the packaged puppet")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--ddp", type=int, help="processes of the last part; else all GPUs, where there are several")
    parser.add_argument("--out", type=Path, default=HERE)
    given, overrides = parser.parse_known_args()
    device = resolve_device(given.device, "--device")
    config = compose("distill", overrides)
    model = open_students([str(given.student or packaged_puppet())])[0].model
    checks = list(run_checks(config, model, device))
    about = environment()
    write_csv(given.out / "checks.csv", [{**row, "hardware": about["hardware"]} for row in checks])
    wrong = [row["check"] for row in checks if not row["holds"]]
    if wrong:
        raise UserError(f"{wrong[0]}: see checks.csv; nothing was timed")
    write_csv(given.out / "results.csv", time_frames(config, model, device, given.frames))
    distil(device, given.minutes, overrides, given.out)
    count = given.ddp or (torch.cuda.device_count() if device.type == "cuda" else 1)
    if count > 1:
        write_csv(
            given.out / "ddp.csv",
            train_on_several(count, given.minutes / 4, overrides, device.type == "cpu", given.out),
        )
    write_report(about, given.out)


if __name__ == "__main__":
    run_table(main)
