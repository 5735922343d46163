"""thadistill benchmark: frame rate of a student's runtimes, or of a teacher, interleaved."""

from __future__ import annotations

import csv
import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from thadistill.data.poses import sample_poses
from thadistill.devices import resolve_device
from thadistill.errors import UserError
from thadistill.files import write_text
from thadistill.metrics.benchmark import Candidate, Frame, measure_speeds
from thadistill.metrics.image import psnr
from thadistill.outputs import VISIBLE
from thadistill.pipeline.report import commit
from thadistill.runtime import resolve
from thadistill.student import CharacterModel

COMPARED = 4  # poses on which a runtime is held against eager


def run(config: DictConfig, out: Path) -> float:
    """Appends a row a runtime (or one for the teacher) to ``benchmark.csv``; the last line printed is the rows as JSON."""
    if config.batch < 1 or config.frames < 1:
        raise UserError(f"batch={config.batch} frames={config.frames}; expected 1 or more of each")
    if (config.model is None) == (config.get("teacher") is None):
        raise UserError("expected either model=DIR or teacher=NAME: what shall be timed?")
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    poses = sample_poses(max(64, 2 * config.batch), config.seed).to(device)
    with torch.inference_mode():
        rows = _teacher(config, poses) if config.model is None else _student(config, poses)
    out.mkdir(parents=True, exist_ok=True)
    _append(out / "benchmark.csv", rows)
    for row in rows:
        print(
            f"{row['model']} {row['runtime']}: {row['ms_median']:.1f} ms a call of {row['batch']} "
            f"(p95 {row['ms_p95']:.1f}), {1000 * row['batch'] / row['ms_median']:.1f} frames a second, "
            f"first frame after {row['first_frame_s']:.1f} s",
            file=sys.stderr,
        )
    print(json.dumps(rows))
    return float(rows[-1]["ms_median"])


def _student(config: DictConfig, poses: Float[Tensor, "n 45"]) -> list[dict[str, Any]]:
    names = [name.strip() for name in str(config.runtime).split(",") if name.strip()]
    model = CharacterModel.load(config.model, poses.device)
    kinds = {name: resolve(name, poses.device.type) for name in names}
    built: dict[str, Any] = {}

    def build(name: str) -> Frame:
        built[name] = model.compile(runtime=name)
        # to uint8 RGBA, as a window or a camera takes it; batches stay named tensors
        return built[name].rgba8 if config.batch == 1 else built[name]

    candidates = {name: Candidate(partial(build, name), _dtype(kinds[name])) for name in names}
    speeds = measure_speeds(candidates, poses, config.batch, config.frames)
    reference = [model(pose) for pose in poses[:COMPARED].split(1)]
    rows = []
    for name, speed in speeds.items():
        given = [built[name](pose) for pose in poses[:COMPARED].split(1)]
        images = torch.cat([psnr(a.posed, b.posed) for a, b in zip(given, reference, strict=True)])
        change = max(
            float(((a.grid_change - b.grid_change).abs() * (b.posed[:, 3:] > VISIBLE)).max()) * 256
            for a, b in zip(given, reference, strict=True)
        )
        quality = {"psnr_to_eager": round(float(images.mean()), 2), "grid_max_px": round(change, 4)}
        rows.append({"model": str(config.model), "runtime": name, "kind": kinds[name], **speed.row(), **quality})
    return [{**row, "commit": commit()} for row in rows]


def _dtype(kind: str) -> str:
    return "float16" if kind == "half" else kind if kind.startswith("int") else "float32"


def _teacher(config: DictConfig, poses: Float[Tensor, "n 45"]) -> list[dict[str, Any]]:
    name = "puppet" if config.teacher.get("name") == "puppet" else "lambda_00"
    character = hydra.utils.instantiate(
        {"_target_": "thadistill.data.character.puppet", "seed": config.teacher.get("seed", 0)}
        if name == "puppet"
        else {"_target_": "thadistill.data.character.sample", "name": name}
    )
    image = character.image[None].to(poses.device)

    def build() -> Frame:
        return partial(hydra.utils.instantiate(config.teacher, device=poses.device), image)

    candidates = {"teacher": Candidate(build, str(config.teacher.get("dtype", "float32")))}
    speed = measure_speeds(candidates, poses, config.batch, config.frames)["teacher"]
    row = {"model": config.teacher.name, "runtime": "teacher", "kind": "teacher", **speed.row()}
    return [{**row, "psnr_to_eager": None, "grid_max_px": None, "commit": commit()}]


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Adds rows; a file with other columns is left alone.

    Raises: UserError.
    """
    before = path.read_text(errors="replace") if path.is_file() else ""
    if before and before.splitlines()[:1] != [",".join(rows[0])]:
        raise UserError(f"{path} has other columns; expected those of this version: give another out=")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    if not before:
        writer.writeheader()
    writer.writerows(rows)
    write_text(path, before + text.getvalue())
