"""Distillation: the whole path for one character, within a wall-clock budget, continuing where it was interrupted."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import hydra
import torch
from jaxtyping import Float
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.console import Console
from torch import Tensor

from thadistill.callbacks import Scene
from thadistill.callbacks.progress import progress_bar
from thadistill.data.build import PoseSequence, build_targets, open_cache
from thadistill.data.cache import Kind, TargetCache, Targets
from thadistill.data.character import Character
from thadistill.data.face_mask import face_mask_from_targets
from thadistill.errors import UserError
from thadistill.evaluation import cached_target, cached_targets, evaluate, quality_grid
from thadistill.frame_rate import student_frame_rate, teacher_frame_rate
from thadistill.images import IMAGE_SIZE
from thadistill.metrics.image import psnr
from thadistill.outputs import StudentOutput, TargetOutput
from thadistill.report import distill_report, environment, given_overrides, write_csv, write_json, write_text
from thadistill.student import BodyRotator, CharacterModel
from thadistill.student.body_rotator import Motion
from thadistill.student.start import Part, start
from thadistill.teacher import Teacher
from thadistill.training import train_body_rotator, train_face_morpher

# Lightning starts the further processes of trainer=ddp, which train along and neither speak nor write
FIRST_PROCESS = os.environ.get("LOCAL_RANK", "0") == "0"
console = Console(stderr=True, highlight=False, quiet=not FIRST_PROCESS)


class Run:
    """The folder of one distillation: its plan and what is done, in ``run.json``.

    Raises: UserError when the folder holds a run of another configuration.
    """

    def __init__(self, folder: Path, config: DictConfig) -> None:
        self.folder = folder
        content = OmegaConf.to_container(config, resolve=True)
        assert isinstance(content, dict)
        for key in ("out", "logs", "logger", "trainer"):  # may change without changing the result
            content.pop(key, None)
        self.digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.path = folder / "run.json"
        self.state: dict[str, Any] = {"digest": self.digest, "plan": {}, "stages": []}
        if self.path.is_file():
            try:
                found = json.loads(self.path.read_text())
            except json.JSONDecodeError:
                raise UserError(
                    f"{self.path} is damaged; expected a run's record: delete {folder} or give out="
                ) from None
            if found.get("digest") != self.digest:
                raise UserError(
                    f"{folder} holds a run with key {found.get('digest')}; expected {self.digest}, as its configuration "
                    f"differs: give another out=, or delete the folder"
                )
            self.state = found

    def save(self) -> None:
        """Puts the state on disk; the first process's alone."""
        if FIRST_PROCESS:
            write_json(self.path, self.state)

    def planned(self, name: str, value: Callable[[], Any]) -> Any:
        """A number decided once: later calls, also of a continued run, get the first answer."""
        if name not in self.state["plan"]:
            self.state["plan"][name] = value()
            self.save()
        return self.state["plan"][name]

    @contextmanager
    def stage(self, name: str, started: float | None = None) -> Iterator[dict[str, str]]:
        """Times a step; what the body writes into ``detail`` is reported. A continued step adds to its time."""
        started = time.monotonic() if started is None else started
        told: dict[str, str] = {"detail": ""}
        finished = False
        try:
            yield told
            finished = True
        finally:
            row = next((row for row in self.state["stages"] if row["name"] == name), None)
            if row is None:
                row = {"name": name, "minutes": 0.0, "detail": ""}
                self.state["stages"].append(row)
            row["minutes"] += (time.monotonic() - started) / 60
            row["detail"] = told["detail"] if finished else "interrupted"
            self.save()

    @property
    def minutes(self) -> float:
        """Spent so far over all steps."""
        return sum(row["minutes"] for row in self.state["stages"])


def shown(folder: Path) -> Path:
    """A folder as a user would type it: relative to the current one where it lies in it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def default_budget(config: DictConfig) -> float:
    """Minutes that suit machine and teacher: ten, with or without a GPU, which then gets further in them.

    The procedural teacher needs no minutes of its own: under five.
    """
    return 4.7 if config.teacher.name == "puppet" else 10.0


def budget_of(config: DictConfig) -> float:
    """Minutes of wall-clock that were asked for, else what suits the machine.

    Raises: UserError when they are not above 0.
    """
    if config.budget_minutes is None:
        return default_budget(config)
    if config.budget_minutes <= 0:
        raise UserError(f"budget_minutes={config.budget_minutes}; expected minutes above 0")
    return float(config.budget_minutes)


def distill(config: DictConfig, out: Path, process_started: float) -> dict[str, Any]:
    """Runs or continues a distillation; returns the metrics, or nothing where this is a further process of trainer=ddp.

    Args:
        config: conf/distill.yaml, composed.
        out: gets ``character_model/``, ``report.md``, ``metrics.json``, ``metrics.csv``, ``preview.png``, checkpoints.
        process_started: ``time.monotonic()`` from which the budget counts.
    """
    budget = budget_of(config)
    check_seeds(config)
    run = Run(out, config)
    if (out / "metrics.json").is_file() and run.state.get("done"):
        console.print(f"{shown(out)} is done already; delete it or give another out= to distil again", soft_wrap=True)
        return json.loads((out / "metrics.json").read_text())
    check_student(config)
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=device(config))
    seed_everything(config.seed, verbose=False)
    run.save()
    with run.stage("start", process_started) as told:
        told["detail"] = "imports, weights, character"
    console.print(
        f"{character.name} from {teacher.name}, recipe {config.recipe.name}: {budget:g} minutes, into {shown(out)}",
        soft_wrap=True,
    )
    targets = _build(run, config, teacher, character.image, budget)
    with run.stage("face mask") as told:
        mask = character.face_mask
        told["detail"] = "given"
        if mask is None:
            mask = face_mask_from_targets(targets["face"], character.image)
            told["detail"] = "computed: where facial poses change the picture"
    face_minutes = run.planned("face_minutes", lambda: config.recipe.face_morpher.share * budget)
    with run.stage("face morpher") as told:
        face, trainer = train_face_morpher(
            config,
            targets["face"],
            targets["held_out_face"],
            mask,
            face_minutes,
            out / "face",
            targets["posed"],
            Scene(character.image, targets["held_out_face"], mask),
        )
        told["detail"] = f"{trainer.global_step:,} steps on {len(targets['face']) + len(targets['posed'])} poses"
    last = 0.06 + 0.012 * config.evaluation.poses if str(device(config)) == "cpu" else 0.3
    last += 0.15 if config.evaluation.speed else 0
    body_minutes = run.planned(
        "body_minutes", lambda: max(0.02 * budget, budget - run.minutes - min(last, 0.2 * budget))
    )
    with run.stage("body rotator") as told:
        body, trainer = train_body_rotator(
            config,
            character.image,
            targets["posed"],
            targets["held_out"],
            body_minutes,
            out / "body",
            Scene(character.image, targets["held_out"], mask, face, teacher),
        )
        told["detail"] = f"{trainer.global_step:,} steps on {len(targets['posed'])} poses"
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what is measured from here on is not gathered
    if not FIRST_PROCESS:
        return {}
    model = CharacterModel(character.image, face.cpu(), body.cpu()).to(device(config)).eval()
    with run.stage("evaluation") as told:
        told["detail"] = f"{len(targets['held_out'])} held-out poses"
        metrics, grid = _evaluate(config, model, targets["held_out"], character.image, mask)
    if config.evaluation.speed:
        with run.stage("frame rate") as told:
            speed = student_frame_rate(model, config.evaluation.runtime)
            metrics |= speed | teacher_frame_rate(teacher, character.image)
            told["detail"] = f"student {metrics['student_ms']:.1f} ms, teacher {metrics['teacher_ms']:.0f} ms a frame"
    _write(run, config, out, budget, model, mask, character, teacher, metrics, grid)
    return metrics


def check_seeds(config: DictConfig) -> None:
    """Refuses to evaluate on the poses that are trained on.

    Raises: UserError.
    """
    training: PoseSequence = hydra.utils.instantiate(config.recipe.targets.poses)
    if training.label == PoseSequence(seed=config.evaluation.seed).label:
        raise UserError(f"evaluation.seed={config.evaluation.seed} gives the training poses; expected another seed")


def check_student(config: DictConfig, parts: Iterable[Part] = get_args(Part)) -> None:
    """Refuses a student that cannot be made, or not from ``init``, before targets are built for it.

    Raises: UserError.
    """
    for part in parts:
        network = hydra.utils.instantiate(config.student[part])
        start(network, part, config.init)
        if isinstance(network, BodyRotator) and network.sizes[-1] != IMAGE_SIZE:
            raise UserError(f"BodyRotator: sizes {list(network.sizes)}; expected the last to be {IMAGE_SIZE}")


def device(config: DictConfig) -> torch.device:
    """Where teacher and student run: what the trainer's accelerator says."""
    wanted = config.trainer.accelerator
    return torch.device("cuda" if wanted in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu")


def _build(
    run: Run,
    config: DictConfig,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    budget: float,
    only: Kind | None = None,
) -> dict[str, Targets]:
    """Held-out poses whole, then as many training targets as the budget's shares allow; of one kind, if asked."""
    recipe = config.recipe.targets
    training: PoseSequence = hydra.utils.instantiate(recipe.poses)
    held_out = PoseSequence(seed=config.evaluation.seed)
    plan: list[tuple[str, Kind, PoseSequence, int, float | None]] = [
        ("held_out", "posed", held_out, max(config.evaluation.poses, config.validation.poses), None),
        ("held_out_face", "face", held_out, 4 * config.validation.poses, None),
        ("face", "face", training, recipe.face, recipe.face_share * budget),
        ("posed", "posed", training, recipe.posed, recipe.posed_share * budget),
    ]
    made = {}
    for name, kind, poses, count, minutes in plan:
        if only not in (None, kind):
            continue
        place = None if config.targets is None else Path(config.targets) / f"{name}"
        cache = open_cache(kind, teacher, image, poses, place)
        with run.stage(f"targets: {name.replace('_', ' ')}") as told:
            before = len(cache)
            seconds = None if minutes is None else 60 * minutes
            have = fill(cache, teacher, image, poses, count, seconds, name.replace("_", " "))
            used = run.planned(f"{name}_poses", functools.partial(min, have, count))
            told["detail"] = f"{used} poses, {max(0, have - before)} new"
        made[name] = cache.open(min(used, config.evaluation.poses) if name == "held_out" else used)
    return made


def fill(
    cache: TargetCache,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    poses: PoseSequence,
    count: int,
    seconds: float | None,
    name: str,
    **how: Any,
) -> int:
    """:func:`build_targets` under a progress bar; nothing happens where the cache has enough."""
    if len(cache) >= count:
        return len(cache)
    with progress_bar() as bar:
        task = bar.add_task(f"teacher: {name}", total=count, note="")
        started, already = time.monotonic(), len(cache)
        bar.update(task, completed=already)

        def report(done: int) -> None:
            # where time runs out first, the bar shows the time
            share = max(done / count, 0 if seconds is None else (time.monotonic() - started) / seconds)
            bar.update(task, completed=min(1.0, share) * count, note=f"{done} poses")

        return build_targets(cache, teacher, image, poses, count, seconds=seconds, report=report, **how)


def _evaluate(
    config: DictConfig,
    model: CharacterModel,
    held_out: Targets,
    image: Float[Tensor, "4 512 512"],
    mask: Float[Tensor, "1 512 512"],
) -> tuple[dict[str, Any], Image.Image]:
    place = device(config)
    alone, unmoved = [], []
    folded = model.compile(runtime="folded")  # the same but for rounding, several times faster on a CPU

    def student(pose: Tensor) -> StudentOutput:
        return StudentOutput(*(value.cpu() for value in folded(pose.to(place))))

    def watch(out: StudentOutput, target: TargetOutput) -> None:
        motion = Motion(out.grid_change, out.alpha, out.color_change)
        alone.append(psnr(model.body_rotator.render(motion, target.face_morphed).blended, target.posed))
        unmoved.append(psnr(target.face_morphed, target.posed))

    given = cached_targets(held_out, image)
    with progress_bar() as bar:
        task = bar.add_task("evaluation", total=len(held_out), note="")
        metrics, _ = evaluate(
            student, given, mask, config.evaluation.perceptual, lambda done: bar.update(task, completed=done), watch
        )
    metrics["psnr_teacher_face"] = float(torch.cat(alone).mean())
    metrics["psnr_unmoved"] = float(torch.cat(unmoved).mean())
    return metrics, quality_grid(student, lambda index: cached_target(held_out, image, index), metrics["per_pose"])


def _write(
    run: Run,
    config: DictConfig,
    out: Path,
    budget: float,
    model: CharacterModel,
    mask: Float[Tensor, "1 512 512"],
    character: Character,
    teacher: Teacher,
    metrics: dict[str, Any],
    grid: Image.Image,
) -> None:
    folder = model.save(out / "character_model")
    save_mask(mask, folder / "face_mask.png")
    grid.save(out / "preview.png")
    rows = metrics.pop("per_pose")
    write_csv(out / "metrics.csv", rows)
    summary = {
        "character": character.name,
        "teacher": teacher.name,
        "recipe": config.recipe.name,
        "seed": config.seed,
        "budget_minutes": budget,
        "size_mb": model.size_mb,
        "stages": run.state["stages"],
        "environment": environment(),
        "overrides": given_overrides(),
        "command": " ".join(["thadistill", *sys.argv[0].split()[1:], *sys.argv[1:]]),
    }
    extra = {key: metrics[key] for key in ("psnr_teacher_face", "psnr_unmoved")}
    write_json(out / "metrics.json", {**metrics, **summary})
    write_text(out / "report.md", distill_report({**summary, **extra}, metrics))
    run.state["done"] = True
    run.save()


def save_mask(mask: Float[Tensor, "1 512 512"], path: Path) -> None:
    """Writes a face mask as an 8-bit grey PNG."""
    Image.fromarray((mask[0] * 255).round().to(torch.uint8).cpu().numpy()).save(path)


KINDS: dict[str, Kind] = {"face_morpher": "face", "body_rotator": "posed"}


def train_one(config: DictConfig, out: Path, process_started: float) -> float:
    """Trains one student network on cached targets for the budget, building what is missing; returns the last PSNR.

    Raises: UserError for a module that is not a student's.
    """
    if config.module not in KINDS:
        raise UserError(f"module={config.module}; expected one of {', '.join(KINDS)}")
    budget = budget_of(config)
    check_seeds(config)
    run = Run(out, config)
    check_student(config, [config.module])
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device=device(config))
    seed_everything(config.seed, verbose=False)
    with run.stage("start", process_started):
        pass
    targets = _build(run, config, teacher, character.image, budget, only=KINDS[config.module])
    minutes = run.planned("minutes", lambda: max(0.02 * budget, budget - run.minutes))
    with run.stage("training"):
        if config.module == "face_morpher":
            mask = character.face_mask
            mask = face_mask_from_targets(targets["face"], character.image) if mask is None else mask
            scene = Scene(character.image, targets["held_out_face"], mask)
            _, trainer = train_face_morpher(
                config, targets["face"], targets["held_out_face"], mask, minutes, out, scene=scene
            )
        else:
            scene = Scene(character.image, targets["held_out"], character.face_mask, teacher=teacher)
            _, trainer = train_body_rotator(
                config, character.image, targets["posed"], targets["held_out"], minutes, out, scene
            )
    return float(trainer.callback_metrics.get("val/psnr", float("nan")))
