"""Steps of a distillation: targets, face morpher, body rotator; one after the other, or in parallel with a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import lightning as L
from jaxtyping import Float
from lightning import seed_everything
from omegaconf import DictConfig
from torch import Tensor

from thadistill.callbacks import BudgetBar, Comparison
from thadistill.console import console
from thadistill.data.character import Character
from thadistill.data.face_mask import face_mask_of
from thadistill.data.target_cache import SHARD, Targets
from thadistill.images import load_face_mask
from thadistill.pipeline.fit import face_morpher_step, train_body_rotator, train_face_morpher, trained_face_morpher
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets, training_ends, training_minutes
from thadistill.pipeline.worker import Worker
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.teacher import Teacher


class Trained(NamedTuple):
    """A student's networks, and what they are judged by."""

    face: FaceMorpher
    body: BodyRotator
    mask: Float[Tensor, "1 512 512"]
    validation: Targets
    evaluation: Targets


def one_by_one(run: RunFolder, config: DictConfig, character: Character, sets: TargetSets, out: Path) -> Trained:
    """One step after the other, each with all of the machine."""
    seed_everything(config.seed, verbose=False)
    targets = sets.build(run, ("validation", "validation_face", "evaluation", "face", "posed"))
    share = None if sets.budget is None else config.recipe.face_morpher.share * sets.budget
    face, mask = face_morpher_step(run, config, character, targets, lambda: share, out / "face")
    comparison = Comparison(character.image, targets["validation"], mask, face, sets.teacher)
    body = _body_rotator_step(run, config, character, targets, sets.budget, out, comparison)
    return Trained(face, body, mask, targets["validation"], targets["evaluation"])


def with_worker(
    worker: Worker, run: RunFolder, config: DictConfig, character: Character, sets: TargetSets, out: Path
) -> Trained:
    """The body rotator here; what it trains on, and the face morpher, in the second process."""
    seed_everything(config.seed, verbose=False)
    targets = sets.build(run, ("validation",))
    posed = sets.cache("posed")
    wanted = sets.wanted["posed"]
    with run.step("targets: posed") as step:
        some = min(worker.processes * SHARD, wanted.most)  # a shard for each
        step["detail"] = f"{sets.fill('posed', posed, some, wanted.minutes)} to begin with"
    targets["posed"] = posed.open(min(len(posed), wanted.most))
    progress = BudgetBar("body rotator", also=worker.look)
    comparison = Comparison(character.image, targets["validation"], character.face_mask, teacher=sets.teacher)
    body = _body_rotator_step(run, config, character, targets, sets.budget, out, comparison, progress, wanted.most)
    run.planned("posed_poses", lambda: len(targets["posed"]))
    with run.step("face morpher") as step:
        worker.wait()
        step["detail"] = "waiting for the second process"
    run.take_in(out / "face", "worker")
    face, mask = trained_face_morpher(config, out / "face"), load_face_mask(out / "face" / "face_mask.png")
    cache, wanted = sets.cache("evaluation"), config.evaluation.poses
    if len(cache) < wanted:
        console.print(f"the budget was short: evaluated on {len(cache)} of evaluation.poses={wanted}")
    return Trained(face, body, mask, targets["validation"], cache.open(min(len(cache), wanted)))


def _body_rotator_step(
    run: RunFolder,
    config: DictConfig,
    character: Character,
    targets: Mapping[str, Targets],
    budget: float | None,
    out: Path,
    comparison: Comparison,
    progress: L.Callback | None = None,
    most: int = 0,
) -> BodyRotator:
    def left() -> float | None:
        return None if budget is None else training_minutes(budget, training_ends(config, budget) - run.minutes)

    minutes = run.planned("body_minutes", left)
    posed = targets["posed"]
    with run.step("body rotator") as step:
        body, trainer = train_body_rotator(
            config, character.image, posed, targets["validation"], minutes, out / "body", comparison, progress, most
        )
        step["detail"] = f"{trainer.global_step:,} steps on {len(posed)} poses"
    return body


def train_module(
    config: DictConfig,
    out: Path,
    character: Character,
    teacher: Teacher,
    targets: Mapping[str, Targets],
    minutes: float | None,
) -> float:
    """Trains ``config.module`` on targets by name, for so many minutes; returns the last validation PSNR."""
    seed_everything(config.seed, verbose=False)
    if config.module == "face_morpher":
        mask = face_mask_of(character, targets["face"])
        comparison = Comparison(character.image, targets["validation_face"], mask)
        _, trainer = train_face_morpher(
            config, targets["face"], targets["validation_face"], mask, minutes, out, comparison=comparison
        )
    else:
        comparison = Comparison(character.image, targets["validation"], character.face_mask, teacher=teacher)
        _, trainer = train_body_rotator(
            config, character.image, targets["posed"], targets["validation"], minutes, out, comparison
        )
    return float(trainer.callback_metrics.get("val/psnr", float("nan")))
