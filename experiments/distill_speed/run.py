"""Distillation speed: runs a recipe from nothing under a wall-clock budget and follows its quality over the minutes.

    python experiments/distill_speed/run.py NAME --minutes 15 [distill's overrides, as recipe=paper init=warm]

The command that is measured is ``thadistill distill``, as a process of its own with an empty folder for targets: imports,
teacher, training and evaluation all count. Checkpoints that it keeps on the way are evaluated afterwards, on the same
evaluation poses as its end. Rows go to results.csv, those of NAME replaced; report.py makes plot.png and table.md of it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from thadistill.config import compose
from thadistill.devices import trainer_device
from thadistill.files import write_csv
from thadistill.images import load_face_mask
from thadistill.lit import BodyRotatorModule
from thadistill.metrics.evaluate import cached_targets, evaluate
from thadistill.pipeline.report import environment
from thadistill.pipeline.targets import TargetSets
from thadistill.student import CharacterModel

HERE = Path(__file__).parent
FIGURES = ("psnr", "psnr_display", "face_psnr", "eye_mouth_psnr", "flow_epe_px")


def steal_seconds() -> float:
    """Seconds that a virtual machine's host has kept its processors from it, all added; 0 where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def memory(process: int) -> dict[str, int]:
    """What a process and those that it started hold, in kB, added: of their own, and with mapped files at the most."""
    held = {"RssAnon": 0, "VmHWM": 0}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
        except OSError:  # just ended
            continue
        found = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
        if process in (found["Pid"], found["PPid"]):
            held = {name: size + found.get(name, 0) for name, size in held.items()}
    return held


def measured(overrides: list[str], log: Path) -> dict[str, float]:
    """Runs ``thadistill distill`` and watches its memory; gives when it began, its minutes, and its peaks in MB.

    ``steal`` is the share of the processors' time that the host gave to others: what wall-clock cannot be blamed for.
    ``peak_mb`` is what the processes hold of their own; targets are mapped files, which ``peak_with_files_mb`` has too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    peaks = {"RssAnon": 0, "VmHWM": 0}
    started, steal = time.time(), steal_seconds()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "thadistill.cli", "distill", *overrides], stdout=file, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            now = memory(process.pid)
            peaks = {name: max(peak, now[name]) for name, peak in peaks.items()}
            time.sleep(0.5)
    seconds = time.time() - started
    if process.returncode:
        sys.exit(f"distill ended with status {process.returncode}: see {log}")
    mb = {name: round(peak * 1024 / 1e6) for name, peak in peaks.items()}
    return {
        "started": started,
        "minutes": seconds / 60,
        "steal": round((steal_seconds() - steal) / (seconds * (os.cpu_count() or 1)), 3),
        "peak_mb": mb["RssAnon"],
        "peak_with_files_mb": mb["VmHWM"],
    }


def composed(overrides: list[str]) -> DictConfig:
    """The configuration that the measured command had."""
    return compose("distill", overrides)


def on_the_way(config: DictConfig, out: Path, started: float) -> list[tuple[float, CharacterModel]]:
    """(minutes since the start, student) at each kept checkpoint of the body rotator, with the finished face morpher."""
    finished = CharacterModel.load(out / "character_model")
    students = []
    for path in sorted((out / "body" / "kept").glob("*.ckpt"), key=lambda path: path.stat().st_mtime):
        module: BodyRotatorModule = hydra.utils.instantiate(config.modules.body_rotator, image=finished.image)
        content = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(content["state_dict"])
        model = CharacterModel(finished.image, finished.face_morpher, module.student()).eval()
        students.append(((path.stat().st_mtime - started) / 60, model))
    return students


def points(config: DictConfig, out: Path, run: dict[str, float]) -> list[dict[str, Any]]:
    """A row for each kept checkpoint, and one for the end."""
    finished = CharacterModel.load(out / "character_model")
    mask = load_face_mask(out / "character_model" / "face_mask.png")
    teacher = hydra.utils.instantiate(config.teacher, device=trainer_device(config.trainer))
    targets = TargetSets(config, teacher, finished.image, None).complete("evaluation")["evaluation"]
    given = list(cached_targets(targets, finished.image))
    rows = []
    for minutes, model in [*on_the_way(config, out, run["started"]), (run["minutes"], finished)]:
        metrics = evaluate(model.compile(runtime="exact"), given, mask)
        rows.append({"minutes": round(minutes, 2), **{name: round(metrics[name], 4) for name in FIGURES}})
    return [{**row, "at": "end" if row is rows[-1] else "on the way"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of this run, in results.csv and the plot")
    parser.add_argument("--minutes", type=float, default=15.0, help="the budget")
    parser.add_argument("--keep", type=float, default=2.0, help="minutes of body training between checkpoints")
    parser.add_argument("--results", type=Path, default=HERE / "results.csv")
    given, overrides = parser.parse_known_args()
    out = HERE / "outputs" / given.name
    shutil.rmtree(out, ignore_errors=True)
    overrides = [*overrides, f"budget_minutes={given.minutes}", f"keep_every={given.keep}"]
    overrides += [f"out={out}", f"targets={out}/targets"]
    run = measured(overrides, out / "log.txt")
    config = composed(overrides)
    made = json.loads((out / "metrics.json").read_text())
    about = {
        "name": given.name,
        "recipe": config.recipe.name,
        "init": "cold" if config.init is None else "warm",
        "student": f"{config.student.name}, width_scale {config.student.body_rotator.get('width_scale', 1):g}",
        "character": made["character"],
        "teacher": made["teacher"],
        "device": str(trainer_device(config.trainer)),
        "hardware": environment()["hardware"],
        "budget_minutes": given.minutes,
        "seed": config.seed,
        "commit": environment()["commit"],
        "steal": run["steal"],
        "peak_mb": run["peak_mb"],
        "peak_with_files_mb": run["peak_with_files_mb"],
        "overrides": " ".join(sorted(o for o in overrides if not o.startswith(("out=", "targets=")))),
    }
    rows = [about | row for row in points(config, out, run)]
    before = []
    if given.results.is_file():
        with given.results.open(newline="") as file:
            others = [row for row in csv.DictReader(file) if row["name"] != given.name]
        before = [{name: row.get(name, "") for name in rows[0]} for row in others]  # older rows had fewer columns
    write_csv(given.results, [*before, *rows])
    shutil.rmtree(out / "targets")
    (out / "config.yaml").write_text(OmegaConf.to_yaml(config))
    print(rows[-1])


if __name__ == "__main__":
    main()
