"""Result of a distillation: saves the student, compares it with its teacher, times it, and writes the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from thadistill.console import progress_bar
from thadistill.data.character import Character
from thadistill.devices import trainer_device
from thadistill.files import write_csv, write_json, write_text
from thadistill.images import save_face_mask, save_png
from thadistill.metrics.evaluate import cached_target, cached_targets, evaluate, quality_grid
from thadistill.metrics.frame_rate import student_frame_rate, teacher_frame_rate
from thadistill.metrics.image import psnr
from thadistill.outputs import StudentOutput, TargetOutput
from thadistill.pipeline.loggers import tell_result
from thadistill.pipeline.report import distill_report, environment, given_overrides
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.steps import Trained
from thadistill.pipeline.targets import budget_of
from thadistill.student import CharacterModel
from thadistill.student.body_rotator import RotatorOutput
from thadistill.teacher import Teacher


def finish(
    run: RunFolder, config: DictConfig, out: Path, character: Character, teacher: Teacher, trained: Trained
) -> dict[str, Any]:
    """Saves the student before anything that can fail; returns the metrics that it then measures and writes."""
    device = trainer_device(config.trainer)
    model = CharacterModel(character.image, trained.face.cpu(), trained.body.cpu()).to(device).eval()
    save_face_mask(trained.mask, model.save(out / "character_model") / "face_mask.png")
    with run.step("evaluation") as step:
        step["detail"] = f"{len(trained.evaluation)} poses"
        metrics, grid = _evaluate(config, model, trained, character.image)
    if config.evaluation.speed:
        with run.step("frame rate") as step:
            speed = student_frame_rate(model, config.evaluation.runtime)
            metrics |= speed | teacher_frame_rate(teacher, character.image)
            step["detail"] = f"student {metrics['student_ms']:.1f} ms, teacher {metrics['teacher_ms']:.0f} ms a frame"
    _write(run, config, out, model, character, teacher, metrics, grid)
    return metrics


def _evaluate(
    config: DictConfig,
    model: CharacterModel,
    trained: Trained,
    image: Float[Tensor, "4 512 512"],
) -> tuple[dict[str, Any], Image.Image]:
    """Figures on the evaluation poses; ``val_psnr``, on the validation poses, is what a search may choose by."""
    evaluation, mask, place = trained.evaluation, trained.mask, model.image.device
    alone, unmoved = [], []
    folded = model.compile(runtime="folded")  # the same but for rounding, several times faster on a CPU

    def student(pose: Tensor) -> StudentOutput:
        return StudentOutput(*(value.cpu() for value in folded(pose.to(place))))

    def watch(out: StudentOutput, target: TargetOutput) -> None:
        motion = RotatorOutput(out.grid_change, out.alpha, out.color_change)
        alone.append(psnr(model.body_rotator.render(motion, target.face_morphed).blended, target.posed))
        unmoved.append(psnr(target.face_morphed, target.posed))

    given = cached_targets(evaluation, image)
    with progress_bar() as bar:
        task = bar.add_task("evaluation", total=len(evaluation), note="")
        metrics = evaluate(
            student, given, mask, config.evaluation.perceptual, lambda done: bar.update(task, completed=done), watch
        )
    metrics["val_psnr"] = evaluate(student, cached_targets(trained.validation, image), mask)["psnr"]
    metrics["psnr_teacher_face"] = float(torch.cat(alone).mean())
    metrics["psnr_unmoved"] = float(torch.cat(unmoved).mean())
    return metrics, quality_grid(student, lambda index: cached_target(evaluation, image, index), metrics["per_pose"])


def _write(
    run: RunFolder,
    config: DictConfig,
    out: Path,
    model: CharacterModel,
    character: Character,
    teacher: Teacher,
    metrics: dict[str, Any],
    grid: Image.Image,
) -> None:
    save_png(grid, out / "preview.png")
    rows = metrics.pop("per_pose")
    write_csv(out / "metrics.csv", rows)
    summary = {
        "character": character.name,
        "teacher": teacher.name,
        "student": config.student.name,
        "recipe": config.recipe.name,
        "seed": config.seed,
        "budget_minutes": budget_of(config),
        "size_mb": model.size_mb,
        "steps": run.state["steps"],
        "worker": run.state.get("worker", []),
        "environment": environment(model.image.device),
        "overrides": given_overrides(),
        "command": " ".join(["thadistill", *sys.argv[0].split()[1:], *sys.argv[1:]]),
    }
    extra = {key: metrics[key] for key in ("psnr_teacher_face", "psnr_unmoved")}
    write_json(out / "metrics.json", {**metrics, **summary})
    write_text(out / "report.md", distill_report({**summary, **extra}, metrics))
    tell_result(config, out, metrics, grid)
    run.state["done"] = True
    run.save()
