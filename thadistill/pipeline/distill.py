"""Distillation: the whole path for one character, within a wall-clock budget, continuing where it was interrupted."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, get_args

import hydra
import lightning as L
import torch
from jaxtyping import Float
from lightning import seed_everything
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from thadistill.callbacks import BudgetBar, Scene
from thadistill.console import FIRST_PROCESS, console, progress_bar, shown
from thadistill.data.character import Character
from thadistill.data.face_mask import face_mask_from_targets
from thadistill.data.target_cache import SHARD, Targets
from thadistill.devices import trainer_device
from thadistill.errors import UserError
from thadistill.files import write_csv, write_json, write_text
from thadistill.images import IMAGE_SIZE, load_face_mask, save_face_mask
from thadistill.metrics.evaluate import cached_target, cached_targets, evaluate, quality_grid
from thadistill.metrics.frame_rate import student_frame_rate, teacher_frame_rate
from thadistill.metrics.image import psnr
from thadistill.outputs import StudentOutput, TargetOutput
from thadistill.pipeline.fit import face_morpher_step, train_body_rotator, train_face_morpher, trained_face_morpher
from thadistill.pipeline.kernels import ready_kernels
from thadistill.pipeline.loggers import tell_result
from thadistill.pipeline.report import commit, distill_report, environment, given_overrides, versions
from thadistill.pipeline.run_state import Run
from thadistill.pipeline.targets import TargetSets, budget_of, check_targets, training_ends
from thadistill.pipeline.worker import Worker, has_worker
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.body_rotator import Motion
from thadistill.student.init import Part, apply_init
from thadistill.teacher import Teacher


def distill(config: DictConfig, out: Path, process_started: float) -> dict[str, Any]:
    """Runs or continues a distillation; returns the metrics, or nothing where this is a further process of trainer=ddp.

    Args:
        config: conf/distill.yaml, composed.
        out: gets ``character_model/``, ``report.md``, ``metrics.json``, ``metrics.csv``, ``preview.png``, checkpoints.
        process_started: ``time.monotonic()`` from which the budget counts.
    """
    device = trainer_device(config.trainer)
    budget = budget_of(config)
    check_targets(config)
    run = Run(out, config)
    if run.state.get("done") and (metrics := _reported(out)) is not None:
        console.print(f"{shown(out)} is done already; delete it or give another out= to distil again", soft_wrap=True)
        return metrics
    check_student(config)
    with run.alone():
        return _distill(config, out, process_started, run, device, budget)


def _reported(out: Path) -> dict[str, Any] | None:
    """The figures of a finished run; None where they are lost or damaged, and are measured again."""
    try:
        metrics = json.loads((out / "metrics.json").read_bytes())
        for name in ("psnr", "psnr_unmoved", "face_psnr"):
            float(metrics[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metrics


def _distill(
    config: DictConfig, out: Path, process_started: float, run: Run, device: torch.device, budget: float | None
) -> dict[str, Any]:
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=device)
    process_started += ready_kernels(device)
    seed_everything(config.seed, verbose=False)
    run.record(config, {"commit": commit(), "versions": versions(), "overrides": given_overrides()})
    began = time.time() - (time.monotonic() - process_started) - 60 * run.minutes
    with run.stage("start", process_started) as stage:
        stage["detail"] = "imports, weights, character"
    worker = None
    if budget is not None and has_worker(config, device):
        worker = Worker(config, out / "face", budget, began)
    with worker or nullcontext():
        console.print(
            f"{character.name} from {teacher.name}, recipe {config.recipe.name}: "
            f"{'until its last pose and patch' if budget is None else f'{budget:g} minutes'}, into {shown(out)}",
            soft_wrap=True,
        )
        sets = TargetSets(config, teacher, character.image, budget)
        train = _one_by_one if worker is None else functools.partial(_with_worker, worker)
        trained = train(run, config, character, sets, out)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what is measured from here on is not gathered
    if not FIRST_PROCESS:
        return {}
    model = CharacterModel(character.image, trained.face.cpu(), trained.body.cpu()).to(device).eval()
    save_face_mask(trained.mask, model.save(out / "character_model") / "face_mask.png")
    with run.stage("evaluation") as stage:
        stage["detail"] = f"{len(trained.evaluation)} poses"
        metrics, grid = _evaluate(config, model, trained.evaluation, character.image, trained.mask)
    if config.evaluation.speed:
        with run.stage("frame rate") as stage:
            speed = student_frame_rate(model, config.evaluation.runtime)
            metrics |= speed | teacher_frame_rate(teacher, character.image)
            stage["detail"] = f"student {metrics['student_ms']:.1f} ms, teacher {metrics['teacher_ms']:.0f} ms a frame"
    _write(run, config, out, budget, model, character, teacher, metrics, grid)
    return metrics


class Trained(NamedTuple):
    """A student's networks, and what they are judged by."""

    face: FaceMorpher
    body: BodyRotator
    mask: Float[Tensor, "1 512 512"]
    evaluation: Targets


def _one_by_one(run: Run, config: DictConfig, character: Character, sets: TargetSets, out: Path) -> Trained:
    """One step after the other, each with all of the machine."""
    targets = sets.build(run, ("validation", "validation_face", "evaluation", "face", "posed"))
    share = None if sets.budget is None else config.recipe.face_morpher.share * sets.budget
    face, mask = face_morpher_step(run, config, character, targets, lambda: share, out / "face")
    scene = Scene(character.image, targets["validation"], mask, face, sets.teacher)
    body = _body_rotator_step(run, config, character, targets, sets.budget, out, scene)
    return Trained(face, body, mask, targets["evaluation"])


def _with_worker(
    worker: Worker, run: Run, config: DictConfig, character: Character, sets: TargetSets, out: Path
) -> Trained:
    """The body rotator here; what it trains on, and the face morpher, in the second process."""
    targets = sets.build(run, ("validation",))
    posed = sets.cache("posed")
    wanted = sets.wanted["posed"]
    with run.stage("targets: posed") as stage:
        some = min(2 * SHARD, wanted.most)  # a shard for each process
        stage["detail"] = f"{sets.fill('posed', posed, some, wanted.minutes)} to begin with"
    targets["posed"] = posed.open()
    progress = BudgetBar("body rotator", also=worker.look)
    scene = Scene(character.image, targets["validation"], character.face_mask, teacher=sets.teacher)
    body = _body_rotator_step(run, config, character, targets, sets.budget, out, scene, progress, wanted.most)
    with run.stage("face morpher") as stage:
        worker.wait()
        stage["detail"] = "waiting for the second process"
    run.take_in(out / "face", "worker")
    face, mask = trained_face_morpher(config, out / "face"), load_face_mask(out / "face" / "face_mask.png")
    cache, wanted = sets.cache("evaluation"), config.evaluation.poses
    if len(cache) < wanted:
        console.print(f"the budget was short: evaluated on {len(cache)} of evaluation.poses={wanted}")
    return Trained(face, body, mask, cache.open(min(len(cache), wanted)))


def _body_rotator_step(
    run: Run,
    config: DictConfig,
    character: Character,
    targets: Mapping[str, Targets],
    budget: float | None,
    out: Path,
    scene: Scene,
    progress: L.Callback | None = None,
    most: int = 0,
) -> BodyRotator:
    def left() -> float | None:
        return None if budget is None else max(0.02 * budget, training_ends(config, budget) - run.minutes)

    minutes = run.planned("body_minutes", left)
    posed = targets["posed"]
    with run.stage("body rotator") as stage:
        body, trainer = train_body_rotator(
            config, character.image, posed, targets["validation"], minutes, out / "body", scene, progress, most
        )
        stage["detail"] = f"{trainer.global_step:,} steps on {len(posed)} poses"
    return body


def check_student(config: DictConfig, parts: Iterable[Part] = get_args(Part)) -> None:
    """Refuses a student that cannot be made, or not from ``init``, before targets are built for it.

    Raises: UserError.
    """
    for part in parts:
        network = hydra.utils.instantiate(config.student[part])
        apply_init(network, part, config.init)
        if isinstance(network, BodyRotator) and network.sizes[-1] != IMAGE_SIZE:
            raise UserError(f"BodyRotator: sizes {list(network.sizes)}; expected the last to be {IMAGE_SIZE}")


def _evaluate(
    config: DictConfig,
    model: CharacterModel,
    evaluation: Targets,
    image: Float[Tensor, "4 512 512"],
    mask: Float[Tensor, "1 512 512"],
) -> tuple[dict[str, Any], Image.Image]:
    place = model.image.device
    alone, unmoved = [], []
    folded = model.compile(runtime="folded")  # the same but for rounding, several times faster on a CPU

    def student(pose: Tensor) -> StudentOutput:
        return StudentOutput(*(value.cpu() for value in folded(pose.to(place))))

    def watch(out: StudentOutput, target: TargetOutput) -> None:
        motion = Motion(out.grid_change, out.alpha, out.color_change)
        alone.append(psnr(model.body_rotator.render(motion, target.face_morphed).blended, target.posed))
        unmoved.append(psnr(target.face_morphed, target.posed))

    given = cached_targets(evaluation, image)
    with progress_bar() as bar:
        task = bar.add_task("evaluation", total=len(evaluation), note="")
        metrics, _ = evaluate(
            student, given, mask, config.evaluation.perceptual, lambda done: bar.update(task, completed=done), watch
        )
    metrics["psnr_teacher_face"] = float(torch.cat(alone).mean())
    metrics["psnr_unmoved"] = float(torch.cat(unmoved).mean())
    return metrics, quality_grid(student, lambda index: cached_target(evaluation, image, index), metrics["per_pose"])


def _write(
    run: Run,
    config: DictConfig,
    out: Path,
    budget: float | None,
    model: CharacterModel,
    character: Character,
    teacher: Teacher,
    metrics: dict[str, Any],
    grid: Image.Image,
) -> None:
    grid.save(out / "preview.png")
    rows = metrics.pop("per_pose")
    write_csv(out / "metrics.csv", rows)
    summary = {
        "character": character.name,
        "teacher": teacher.name,
        "student": config.student.name,
        "recipe": config.recipe.name,
        "seed": config.seed,
        "budget_minutes": budget,
        "size_mb": model.size_mb,
        "stages": run.state["stages"],
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


SETS_OF_MODULE = {"face_morpher": ("validation_face", "face"), "body_rotator": ("validation", "posed")}


def train_one(config: DictConfig, out: Path, process_started: float) -> float:
    """Trains one student network on cached targets for the budget, building what is missing; returns the last PSNR.

    Raises: UserError for a module that is not a student's.
    """
    if config.module not in SETS_OF_MODULE:
        raise UserError(f"module={config.module}; expected one of {', '.join(SETS_OF_MODULE)}")
    device, budget = trainer_device(config.trainer), budget_of(config)
    check_targets(config)
    run = Run(out, config)
    check_student(config, [config.module])
    with run.alone():
        return _train_one(config, out, process_started, run, device, budget)


def _train_one(
    config: DictConfig, out: Path, process_started: float, run: Run, device: torch.device, budget: float | None
) -> float:
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=device)
    process_started += ready_kernels(device)
    seed_everything(config.seed, verbose=False)
    run.record(config, {"commit": commit(), "versions": versions(), "overrides": given_overrides()})
    with run.stage("start", process_started):
        pass
    targets = TargetSets(config, teacher, character.image, budget).build(run, SETS_OF_MODULE[config.module])
    minutes = run.planned("minutes", lambda: None if budget is None else max(0.02 * budget, budget - run.minutes))
    with run.stage("training"):
        if config.module == "face_morpher":
            mask = character.face_mask
            mask = face_mask_from_targets(targets["face"], character.image) if mask is None else mask
            scene = Scene(character.image, targets["validation_face"], mask)
            _, trainer = train_face_morpher(
                config, targets["face"], targets["validation_face"], mask, minutes, out, scene=scene
            )
        else:
            scene = Scene(character.image, targets["validation"], character.face_mask, teacher=teacher)
            _, trainer = train_body_rotator(
                config, character.image, targets["posed"], targets["validation"], minutes, out, scene
            )
    return float(trainer.callback_metrics.get("val/psnr", float("nan")))
