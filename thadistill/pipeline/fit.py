"""Training: fits one network from a composed configuration, continuing where it was interrupted."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.errors import InstantiationException
from jaxtyping import Float
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from torch import Tensor

from thadistill.callbacks import Budget, BudgetBar, Checks, Comparison, ImageGrids, StopDiverged
from thadistill.callbacks.diverged import TrainingDiverged
from thadistill.console import console
from thadistill.data.character import Character
from thadistill.data.datamodule import DistillDataModule, WholeBodies, WholeFaces
from thadistill.data.error_map import ErrorMap
from thadistill.data.face_mask import face_mask_of
from thadistill.data.target_cache import Targets
from thadistill.devices import keep_freed_memory, placed, trainer_device
from thadistill.errors import UserError, check_whole, first_line
from thadistill.images import STUDENT_FACE_REGION, save_face_mask
from thadistill.lit import BodyRotatorModule, FaceMorpherModule
from thadistill.lit.teacher import TeacherModule
from thadistill.pipeline.loggers import ContinuedCSV, finish, loggers, tell_hyperparameters
from thadistill.pipeline.report import commit, versions
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pose import POSE_PARAMETERS
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.init import Part, apply_init
from thadistill.tensors import oddity, read_torch

SAVE_EVERY = timedelta(seconds=30)  # what an interruption can cost


def quiet_lightning() -> None:
    """Silences hints about hardware and loaders that a user of the command line can do nothing with."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def student_module(config: DictConfig, part: Part, **own: Any) -> Any:
    """The LightningModule of one of the student's networks, which begins as ``config.init`` says.

    Raises: UserError for an init of other sizes, or that cannot be read.
    """
    network = hydra.utils.instantiate(config.student[part])
    apply_init(network, part, config.init)
    return hydra.utils.instantiate(config.modules[part], network=network, **own)


def train_face_morpher(
    config: DictConfig,
    targets: Targets,
    validation: Targets,
    mask: Float[Tensor, "1 512 512"],
    minutes: float | None,
    folder: Path,
    posed: Targets | None = None,
    comparison: Comparison | None = None,
    progress: L.Callback | None = None,
) -> tuple[FaceMorpher, L.Trainer]:
    """Trains ``config.student.face_morpher`` by ``config.recipe.face_morpher``; checkpoints go to ``folder``.

    ``posed``: the body rotator's targets, whose faces are trained on too. ``comparison``: for the callbacks of
    conf/callbacks. ``progress``: shows how far it is; a bar, if None.
    """
    recipe = config.recipe.face_morpher
    error_map = ErrorMap(FACE_SIZE, stride=1)
    module: FaceMorpherModule = student_module(config, "face_morpher", error_map=error_map)
    crop = STUDENT_FACE_REGION.crop(mask)
    stream = hydra.utils.instantiate(recipe.stream)

    def train(**place: Any) -> Any:
        return stream(targets, crop, mask_weight=module.mask_weight, also=posed, error_map=error_map, **place)

    data = DistillDataModule(train, WholeFaces(validation, crop, config.validation.faces), config.seed)
    trainer = fit(module, data, config, recipe, minutes, folder, progress or BudgetBar("face morpher"), comparison)
    return module.network, trainer


def face_morpher_step(
    run: RunFolder,
    config: DictConfig,
    character: Character,
    targets: Mapping[str, Targets],
    minutes: Callable[[], float | None],
    folder: Path,
    progress: L.Callback | None = None,
) -> tuple[FaceMorpher, Float[Tensor, "1 512 512"]]:
    """A distillation's face mask and trained face morpher; the mask is in ``folder`` too.

    ``targets``: ``face``, ``validation_face``, and ``posed`` for their faces. ``minutes``: planned when it begins.
    """
    with run.step("face mask") as step:
        computed = "computed: where facial poses change the picture"
        step["detail"] = computed if character.face_mask is None else "given"
        mask = face_mask_of(character, targets["face"])
        save_face_mask(mask, folder / "face_mask.png")
    planned = run.planned("face_minutes", minutes)
    face, validation, posed = (targets[name] for name in ("face", "validation_face", "posed"))
    with run.step("face morpher") as step:
        comparison = Comparison(character.image, validation, mask)
        network, trainer = train_face_morpher(
            config, face, validation, mask, planned, folder, posed, comparison, progress
        )
        faces = torch.cat([face.pose, posed.pose])[:, POSE_PARAMETERS.facial].unique(dim=0)  # posed ones share theirs
        step["detail"] = f"{trainer.global_step:,} steps on {len(faces)} faces"
    return network, mask


def trained_face_morpher(config: DictConfig, folder: Path) -> FaceMorpher:
    """The network that a finished training left in ``folder``."""
    network: FaceMorpher = hydra.utils.instantiate(config.student.face_morpher)
    path = folder / "final.ckpt"
    try:
        state = read_torch(path, str(path))["state_dict"]
        network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        raise UserError(
            f"{path} is not a face morpher's; delete {folder}, and the same command trains it again"
        ) from None
    return network.eval()


def train_body_rotator(
    config: DictConfig,
    image: Float[Tensor, "4 512 512"],
    targets: Targets,
    validation: Targets,
    minutes: float | None,
    folder: Path,
    comparison: Comparison | None = None,
    progress: L.Callback | None = None,
    most: int = 0,
) -> tuple[BodyRotator, L.Trainer]:
    """Trains ``config.student.body_rotator`` by ``config.recipe.body_rotator``; see :func:`train_face_morpher`.

    ``most``: poses that ``targets`` may grow to, where another process adds to them.
    """
    recipe = config.recipe.body_rotator
    error_map = ErrorMap()
    module: BodyRotatorModule = student_module(config, "body_rotator", image=image, error_map=error_map)
    stream = hydra.utils.instantiate(recipe.stream)

    def train(**place: Any) -> Any:
        return stream(targets, error_map=error_map, most=most, **place)

    data = DistillDataModule(train, WholeBodies(validation, config.validation.poses), config.seed)
    trainer = fit(module, data, config, recipe, minutes, folder, progress or BudgetBar("body rotator"), comparison)
    return module.student(), trainer


def fit(
    module: L.LightningModule,
    data: DistillDataModule,
    config: DictConfig,
    recipe: DictConfig,
    minutes: float | None,
    folder: Path,
    progress: L.Callback,
    comparison: Comparison | None = None,
) -> L.Trainer:
    """Runs the trainer under the recipe's budget; an earlier ``last.ckpt`` in ``folder`` is continued.

    ``comparison``: what callbacks compare a student with; None where a teacher's network is trained.
    """
    quiet_lightning()
    device = trainer_device(config.trainer)
    if device.type == "cpu":
        keep_freed_memory()
    budget = Budget(minutes, recipe[module.counted], recipe.progress_by, module.counted)  # type: ignore[index, arg-type]
    saving = ModelCheckpoint(
        folder, save_last=True, save_top_k=0, train_time_interval=SAVE_EVERY, enable_version_counter=False
    )
    kept = []
    if config.keep_every is not None:
        every = timedelta(minutes=config.keep_every)
        every += timedelta(microseconds=1)  # or, as often as the other, it would have that one's key in checkpoints
        kept = [ModelCheckpoint(folder / "kept", train_time_interval=every, save_top_k=-1, save_weights_only=True)]
    settings: dict[str, Any] = placed(config.trainer)
    if isinstance(module, TeacherModule) and config.trainer.get("strategy") == "ddp":
        settings["strategy"] = "ddp_find_unused_parameters_true"  # phases leave parts of a network out
    checks: list[L.Callback] = []
    if config.trainer.val_check_interval is None:
        checks = [Checks(config.validation.checks)]
        if not config.validation.checks:
            data.validation = None
            settings |= {"limit_val_batches": 0}
    else:
        check_whole("trainer.val_check_interval", config.trainer.val_check_interval)  # a stream has no epochs to divide
    needed = [budget, StopDiverged(), *checks, ImageGrids(folder / "grids")]
    configured = configured_callbacks(config, folder, comparison)
    last = folder / "last.ckpt"
    continued = check_checkpoint(last, module) if last.is_file() else None
    made = loggers(config, folder)
    for logger in made if continued is not None else []:
        if isinstance(logger, ContinuedCSV):
            logger.continue_from(continued)  # type: ignore[arg-type]
    try:
        trainer: L.Trainer = hydra.utils.instantiate(
            config.trainer,
            logger=made,
            callbacks=[*needed, saving, *kept, progress, *configured],
            default_root_dir=folder,
            **settings,
        )
    except InstantiationException as error:
        reason = first_line(error.__cause__ or error)
        raise UserError(f"trainer: {reason}; expected what Lightning's Trainer takes: see trainer.*") from error
    if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        tell_hyperparameters(made, config, {"commit": commit(), "versions": versions()})
    try:
        trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except TrainingDiverged as error:
        last.unlink(missing_ok=True)  # what it holds may be spoilt already
        raise SystemExit(f"thadistill: {error}") from None
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        raise KeyboardInterrupt from None  # Lightning's answer to Ctrl-C
    finally:
        finish(trainer.loggers)
    final = folder / "final.ckpt"
    if continued is not None and trainer.global_step <= continued and final.is_file():  # it was through before
        module.load_state_dict(read_torch(final, str(final))["state_dict"])
    else:  # no ModelCheckpoint: callbacks may bring back a better state at the very end, as BestCheckpoint does
        trainer.save_checkpoint(final)
    module.eval()
    return trainer


def configured_callbacks(config: DictConfig, folder: Path, comparison: Comparison | None) -> list[L.Callback]:
    """The callbacks of conf/callbacks, Lightning's own or others; those that take a ``comparison`` or a ``folder`` get it.

    Those that cannot do without a comparison are left out where there is none, which is said.
    """
    made, idle = [], []
    for name, callback in (config.get("callbacks") or {}).items():
        if callback is None:
            continue
        takes = inspect.signature(hydra.utils.get_object(callback._target_)).parameters
        given: dict[str, Any] = {"comparison": comparison, "folder": folder}
        own = {key: value for key, value in given.items() if key in takes and callback.get(key) is None}
        if "comparison" in own and comparison is None and takes["comparison"].default is inspect.Parameter.empty:
            idle.append(str(name))
            continue
        made.append(hydra.utils.instantiate(callback, _partial_=True)(**own))
    if idle:
        console.print(f"not in use, as no student is trained: callbacks {', '.join(idle)}")
    return made


def check_checkpoint(path: Path, module: L.LightningModule) -> int:
    """The step of a checkpoint; one that is cut short or another network's is refused before the trainer trips over it.

    Raises: UserError.
    """
    try:
        content = read_torch(path, str(path))
        found = {key: tuple(value.shape) for key, value in content["state_dict"].items()}
        step = int(content["global_step"])
        if any(oddity(value) is not None for value in content["state_dict"].values()):
            raise ValueError("not finite")
        for name in ("epoch", "loops", "callbacks", "optimizer_states", "lr_schedulers", "pytorch-lightning_version"):
            content[name]  # what the trainer goes on from
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise UserError(
            f"{path} cannot be continued from; delete it, and the same command starts this step from the beginning"
        ) from None
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    if found != expected:
        raise UserError(f"{path} is another network's; delete it, or give another out=")
    return step
