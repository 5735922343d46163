"""thadistill evaluate: a student against its teacher on random poses, or those of a file."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.console import progress_bar
from thadistill.data.face_mask import computed_face_mask
from thadistill.data.poses import pose_set
from thadistill.devices import resolve_device
from thadistill.errors import UserError
from thadistill.files import write_csv, write_json
from thadistill.images import load_face_mask, save_png
from thadistill.metrics.evaluate import evaluate, live_targets, own_face_mask, quality_grid
from thadistill.pipeline.report import environment, figures_table
from thadistill.student import CharacterModel


def run(config: DictConfig, out: Path) -> float:
    """Writes ``metrics.json``, ``metrics.csv`` (a row a pose) and ``grid.png``; returns the PSNR."""
    if config.n < 1:
        raise UserError(f"n={config.n}; expected 1 pose or more")
    device = resolve_device(config.device)
    model = CharacterModel.load(config.model, device)
    poses = pose_set(config.poses, config.n, config.seed)
    teacher = hydra.utils.instantiate(config.teacher, device=device)
    image = model.image.cpu()
    path = config.face_mask or own_face_mask(config.model)
    mask = computed_face_mask(teacher, image, config.seed) if path is None else load_face_mask(path)
    with progress_bar() as bar:
        task = bar.add_task("evaluation", total=len(poses), note="")
        targets = live_targets(teacher, image, poses, device)
        metrics = evaluate(model, targets, mask, config.perceptual, lambda done: bar.update(task, completed=done))
    rows = metrics.pop("per_pose")
    grid = quality_grid(
        model, lambda index: next(iter(live_targets(teacher, image, poses[index : index + 1], device))), rows
    )
    about = {"model": str(config.model), "teacher": teacher.name, "poses": str(config.poses), "seed": config.seed}
    about["device"] = str(device)
    write_csv(out / "metrics.csv", rows)
    save_png(grid, out / "grid.png")
    write_json(out / "metrics.json", {**metrics, **about, "environment": environment(device)})
    print(figures_table(metrics))
    return float(metrics["psnr"])
