"""Distillation: the whole path for one character, within a wall-clock budget, continuing where it was interrupted."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import hydra
import torch
from omegaconf import DictConfig

from thadistill.console import console, shown
from thadistill.data.character import Character
from thadistill.data.sampling import BodyPatches
from thadistill.devices import trainer_device
from thadistill.errors import UserError
from thadistill.files import read_json
from thadistill.images import IMAGE_SIZE
from thadistill.pipeline.kernels import ready_kernels
from thadistill.pipeline.report import commit, given_overrides, versions
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets, budget_of, check_targets, training_minutes
from thadistill.pipeline.worker import Worker, has_worker
from thadistill.processes import is_first
from thadistill.student import BodyRotator
from thadistill.student.init import Part, apply_init
from thadistill.teacher import Teacher

_START = "imports, weights, character"


def distill(config: DictConfig, out: Path, process_started: float) -> dict[str, Any]:
    """Runs or continues a distillation; returns the metrics, or nothing where this is a further process of trainer=ddp.

    Args:
        config: conf/distill.yaml, composed.
        out: gets ``character_model/``, ``report.md``, ``metrics.json``, ``metrics.csv``, ``preview.png``, checkpoints.
        process_started: ``time.monotonic()`` from which the budget counts.
    """
    device = trainer_device(config.trainer)
    check_targets(config)
    run = RunFolder(out, config)
    if run.state.get("done") and (metrics := _reported(out)) is not None:
        console.print(f"{shown(out)} is done already; delete it or give another out= to distil again", soft_wrap=True)
        return metrics
    check_student(config)
    with run.alone():
        return _distill(config, out, run, *_begin(config, run, device, process_started))


def _reported(out: Path) -> dict[str, Any] | None:
    """The figures of a finished run; None where they are lost or damaged, and are measured again."""
    try:
        metrics = read_json(out / "metrics.json")
        for name in ("psnr", "psnr_unmoved", "face_psnr"):
            float(metrics[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metrics


def _begin(
    config: DictConfig, run: RunFolder, device: torch.device, process_started: float
) -> tuple[Character, Teacher]:
    """What every training of a student begins with, recorded as the run's first step."""
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=device)
    process_started += ready_kernels(device)
    run.record(config, {"commit": commit(), "versions": versions(), "overrides": given_overrides()})
    with run.step("start", process_started) as step:
        step["detail"] = _START
    return character, teacher


def _import_steps(run: RunFolder) -> ModuleType:
    """The trainings; their imports, Lightning's seconds, count as the start. A worker that has begun uses them."""
    with run.step("start") as step:
        from thadistill.pipeline import steps

        step["detail"] = _START
    return steps


def _distill(config: DictConfig, out: Path, run: RunFolder, character: Character, teacher: Teacher) -> dict[str, Any]:
    device, budget = trainer_device(config.trainer), budget_of(config)
    worker = None
    if budget is not None and has_worker(config, device):
        worker = Worker(config, out / "face", budget, time.time() - 60 * run.minutes)
    with worker or nullcontext():
        console.print(
            f"{character.name} from {teacher.name}, recipe {config.recipe.name}: "
            f"{'until its last pose and patch' if budget is None else f'{budget:g} minutes'}, into {shown(out)}",
            soft_wrap=True,
        )
        steps = _import_steps(run)
        sets = TargetSets(config, teacher, character.image, budget)
        train = steps.one_by_one if worker is None else functools.partial(steps.with_worker, worker)
        trained = train(run, config, character, sets, out)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what is measured from here on is not gathered
    if not is_first():
        return {}
    from thadistill.pipeline.result import finish

    return finish(run, config, out, character, teacher, trained)


SETS_OF_MODULE = {"face_morpher": ("validation_face", "face"), "body_rotator": ("validation", "posed")}


def train_one(config: DictConfig, out: Path, process_started: float) -> float:
    """Trains one student network on cached targets for the budget, building what is missing; returns the last PSNR.

    Raises: UserError for a module that is not a student's.
    """
    if config.module not in SETS_OF_MODULE:
        raise UserError(f"module={config.module}; expected one of {', '.join(SETS_OF_MODULE)}")
    device, budget = trainer_device(config.trainer), budget_of(config)
    check_targets(config)
    run = RunFolder(out, config)
    check_student(config, [config.module])

    def left() -> float | None:
        return None if budget is None else training_minutes(budget, budget - run.minutes)

    with run.alone():
        character, teacher = _begin(config, run, device, process_started)
        targets = TargetSets(config, teacher, character.image, budget).build(run, SETS_OF_MODULE[config.module])
        steps = _import_steps(run)
        minutes = run.planned("minutes", left)
        with run.step("training"):
            return steps.train_module(config, out, character, teacher, targets, minutes)


def check_student(config: DictConfig, parts: Iterable[Part] = get_args(Part)) -> None:
    """Refuses a student that cannot be made, or not from ``init``, before targets are built for it.

    Raises: UserError.
    """
    for part in parts:
        network = hydra.utils.instantiate(config.student[part])
        apply_init(network, part, config.init)
        if isinstance(network, BodyRotator) and network.sizes[-1] != IMAGE_SIZE:
            raise UserError(f"BodyRotator: sizes {list(network.sizes)}; expected the last to be {IMAGE_SIZE}")
        if isinstance(network, BodyRotator) and config.recipe.body_rotator.stream._target_.endswith("BodyPatches"):
            apart = network.sizes[-1] // network.sizes[0]
            if BodyPatches.STRIDE % apart:
                raise UserError(
                    f"BodyRotator: sizes {list(network.sizes)}; expected the first to be {IMAGE_SIZE // BodyPatches.STRIDE} "
                    "at least, as patches are cut every 4 pixels: or use recipe=paper"
                )
