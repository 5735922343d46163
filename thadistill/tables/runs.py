"""Runs: what makes a table's row: a distillation, a body rotator alone, or frame times interleaved."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from thadistill.config import compose
from thadistill.data.character import Character
from thadistill.data.target_cache import Targets
from thadistill.devices import trainer_device
from thadistill.errors import UserError
from thadistill.files import read_json
from thadistill.metrics.benchmark import Candidate, measure_speeds
from thadistill.metrics.evaluate import cached_targets
from thadistill.metrics.flow import grid_change_epe_px, visible_pixels
from thadistill.metrics.image import psnr
from thadistill.pipeline.distill import distill, train_one
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets
from thadistill.student import BodyRotator, CharacterModel
from thadistill.tables.ledger import SCALES, Row, Run
from thadistill.teacher import Teacher


@dataclass(frozen=True)
class Command:
    """What a table's ``run.py`` was asked for.

    Args:
        experiment: of conf/experiment, which the folder of ``run.py`` is named after.
        scale: of conf/scale.
        overrides: what else was typed, for every row.
        rows: which rows to make, so that several machines can share a table; none named: all.
    """

    experiment: str
    scale: str
    overrides: tuple[str, ...]
    rows: tuple[str, ...] = ()

    def runs(
        self,
        rows: Iterable[str],
        make: Callable[[Command, str, int | None], Row],
        seeds: Mapping[str, int] | None = None,
    ) -> list[Run]:
        """The runs of those of ``rows`` that were asked for.

        Args:
            make: a run's figures, from the command, the row, and the seed; None: that of the configuration.
            seeds: how many runs a row is made of, seeds 0, 1, 2..; rows that are not in it have one.

        Raises: UserError when a row that was asked for does not exist, or a seed is asked for where the table has several.
        """
        rows = list(rows)
        given = [override for override in self.overrides if override.startswith("seed=")]
        if seeds and given:
            raise UserError(f"{given[0]}; expected none at scale={self.scale}, which makes its rows with several seeds")
        unknown = [name for name in self.rows if name not in rows]
        if unknown:
            raise UserError(f"rows={unknown[0]}; expected some of {', '.join(rows)}, separated by commas")
        made = []
        for row in rows:
            if not self.rows or row in self.rows:
                count = (seeds or {}).get(row)
                chosen: list[int | None] = [None] if count is None else [*range(count)]
                made += [Run(row, partial(make, self, row, seed), seed) for seed in chosen]
        return sorted(made, key=lambda run: run.seed or 0)  # every row once, before any again

    def folder(self, row: str, seed: int | None = None) -> Path:
        """Where a run lies, to be continued: ``outputs/tables/EXPERIMENT/SCALE/ROW``, with its seed if it has several."""
        name = re.sub(r"\W+", "_", row).strip("_") + ("" if seed is None else f"_seed{seed}")
        return Path("outputs/tables") / self.experiment / self.scale / name

    def composed(
        self, verb: str, row: str, overrides: Sequence[str], seed: int | None = None
    ) -> tuple[DictConfig, Path]:
        """What ``thadistill VERB experiment=... scale=...`` with the row's overrides would run, and where."""
        out = self.folder(row, seed).resolve()
        own = [] if seed is None else [f"seed={seed}"]
        given = [
            f"experiment={self.experiment}",
            f"scale={self.scale}",
            *overrides,
            *own,
            *self.overrides,
            f"out={out}",
        ]
        return compose(verb, given), out


def read_command(here: Path, about: str | None) -> Command:
    """``run.py [scale=small] [rows=NAME,...] [KEY=VALUE ...]``, for the experiment that the folder ``here`` is named after.

    Raises: SystemExit with ``about`` when asked for help, or with a line when something is not KEY=VALUE.
    """
    scale, overrides, rows = "small", [], ""
    for argument in sys.argv[1:]:
        key, equals, value = argument.partition("=")
        if argument in ("-h", "--help"):
            raise SystemExit(about)
        if not equals:
            raise SystemExit(
                f"{argument} is not KEY=VALUE; expected scale={'|'.join(SCALES)} or an override of the runs"
            )
        if key == "scale":
            scale = value
        elif key == "rows":
            rows = value
        else:
            overrides.append(argument)
    if scale not in SCALES:
        raise SystemExit(f"scale={scale}; expected one of {', '.join(SCALES)}")
    return Command(here.name, scale, tuple(overrides), tuple(name.strip() for name in rows.split(",") if name.strip()))


def untrained_student(config: DictConfig, image: Float[Tensor, "4 512 512"]) -> CharacterModel:
    """A student of the configuration's sizes and seed, random weights: for times, which do not depend on values."""
    torch.manual_seed(config.seed)
    parts = [hydra.utils.instantiate(config.student[part]) for part in ("face_morpher", "body_rotator")]
    return CharacterModel(image, *parts).eval()


def distilled_row(config: DictConfig, out: Path, targets_first: bool = False) -> Row:
    """Distils, or continues, or reads what is done; the figures of ``metrics.json`` and what they took.

    Args:
        targets_first: all targets are made before, outside the budget.
    """
    if targets_first:
        sets = _target_sets(config)[2]
        sets.complete(*sets.wanted)
    distill(config, out, time.monotonic())
    metrics = read_json(out / "metrics.json")
    plan = read_json(out / "run.json")["plan"]
    keys = ("psnr", "psnr_display", "ssim", "lpips", "stlpips", "face_psnr", "eye_mouth_psnr", "flow_epe_px")
    return {
        **{key: metrics.get(key) for key in (*keys, "psnr_teacher_face", "psnr_unmoved", "n")},
        "poses": plan.get("posed_poses"),
        "budget_minutes": metrics["budget_minutes"],
        "minutes": sum(step["minutes"] for step in metrics["steps"]),
        "recipe": metrics["recipe"],
        "teacher": metrics["teacher"],
        "seed": metrics["seed"],
    }


def rotator_row(config: DictConfig, out: Path) -> Row:
    """Trains a body rotator, or continues, and judges it with the teacher's face on evaluation poses.

    Targets are made first, outside the budget and for all rows alike: the rows differ in nothing but their overrides.
    """
    character, teacher, sets = _target_sets(config)
    targets = sets.complete("posed", "validation", "evaluation")
    train_one(config, out, time.monotonic())
    checkpoint = torch.load(out / "final.ckpt", map_location="cpu", weights_only=True)
    network: BodyRotator = hydra.utils.instantiate(config.student.body_rotator)
    module = hydra.utils.instantiate(config.modules.body_rotator, image=character.image, network=network)
    module.load_state_dict(checkpoint["state_dict"])
    run = RunFolder(out, config)
    return {
        **judge_rotator(
            module.student().eval().to(trainer_device(config.trainer)),
            targets["evaluation"],
            character.image,
        ),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": checkpoint["global_step"],
        "poses": run.state["plan"]["posed_poses"],
        "budget_minutes": config.budget_minutes,
        "minutes": run.minutes,
        "recipe": config.recipe.name,
        "teacher": teacher.name,
        "seed": config.seed,
    }


def _target_sets(config: DictConfig) -> tuple[Character, Teacher, TargetSets]:
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=trainer_device(config.trainer))
    return character, teacher, TargetSets(config, teacher, character.image, None)


def judge_rotator(network: BodyRotator, targets: Targets, image: Float[Tensor, "4 512 512"]) -> dict[str, Any]:
    """Means over poses: PSNR with the teacher's face pasted, end-point error, PSNR of not moving at all."""
    place = next(network.parameters()).device
    figures = []
    with torch.inference_mode():
        for pose, target in cached_targets(targets, image):
            motion = network(pose.to(place))
            posed, given = target.posed.to(place), target.face_morphed.to(place)
            values = (
                psnr(network.render(motion, given).blended, posed),
                grid_change_epe_px(motion.grid_change, target.grid_change.to(place), visible_pixels(posed)),
                psnr(given, posed),
            )
            figures.append([float(value) for value in values])
    means = torch.tensor(figures).double().mean(dim=0).tolist()
    return {**dict(zip(("psnr_teacher_face", "flow_epe_px", "psnr_unmoved"), means, strict=True)), "n": len(figures)}


def speed_rows(
    candidates: Mapping[str, Candidate], poses: Float[Tensor, "n 45"], frames: int, warmup: int
) -> dict[str, Row]:
    """Frame times of all candidates, interleaved, so that what else the machine does falls on all alike."""
    keys = ("ms_median", "ms_p95", "cpu_ms_median", "frames", "device", "dtype", "threads", "load")
    speeds = measure_speeds(candidates, poses, frames=frames, warmup=warmup)
    return {name: {key: speed.row()[key] for key in keys} for name, speed in speeds.items()}


def run_table(main: Callable[[], None]) -> None:
    """Calls ``main``; a user's mistake is one line and status 2, an interruption says that it can be continued."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted: what was saved is kept, the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
