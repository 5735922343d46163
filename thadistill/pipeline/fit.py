"""Training: fits one network from a composed configuration, continuing where it was interrupted."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig
from torch import Tensor

from thadistill.callbacks import Budget, BudgetBar, Checks, ImageGrids, Scene
from thadistill.data.character import Character
from thadistill.data.datamodule import DistillDataModule, WholeBodies, WholeFaces
from thadistill.data.error_map import ErrorMap
from thadistill.data.face_mask import face_mask_from_targets
from thadistill.data.target_cache import Targets
from thadistill.devices import keep_freed_memory, placed, trainer_device
from thadistill.errors import UserError
from thadistill.images import STUDENT_FACE_REGION, save_face_mask
from thadistill.lit import BodyRotatorModule, FaceMorpherModule
from thadistill.pipeline.run_state import Run
from thadistill.pose import POSE_PARAMETERS
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.init import Part, apply_init

SAVE_EVERY = timedelta(seconds=30)  # what an interruption can cost
# What a recipe does to random weights would spoil pretrained ones.
WITH_INIT: dict[Part, dict[str, Any]] = {
    "face_morpher": {"position_gain": 1.0},
    "body_rotator": {"near_identity_init": False, "position_gain": 1.0},
}


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
    if config.init is not None:
        own = {**WITH_INIT[part], **own}
    return hydra.utils.instantiate(config.modules[part], network=network, **own)


def train_face_morpher(
    config: DictConfig,
    targets: Targets,
    validation: Targets,
    mask: Float[Tensor, "1 512 512"],
    minutes: float | None,
    folder: Path,
    posed: Targets | None = None,
    scene: Scene | None = None,
    progress: L.Callback | None = None,
) -> tuple[FaceMorpher, L.Trainer]:
    """Trains ``config.student.face_morpher`` by ``config.recipe.face_morpher``; checkpoints go to ``folder``.

    ``posed``: the body rotator's targets, whose faces are trained on too. ``scene``: for the callbacks of conf/callbacks.
    ``progress``: shows how far it is; a bar, if None.
    """
    recipe = config.recipe.face_morpher
    errors = ErrorMap(FACE_SIZE, stride=1)
    module: FaceMorpherModule = student_module(config, "face_morpher", errors=errors)
    crop = STUDENT_FACE_REGION.crop(mask)
    stream = hydra.utils.instantiate(recipe.stream)

    def train(**place: Any) -> Any:
        return stream(targets, crop, mask_weight=recipe.mask_weight, also=posed, errors=errors, **place)

    data = DistillDataModule(train, WholeFaces(validation, crop, config.validation.poses * 4), config.seed)
    shown = [progress or BudgetBar("face morpher"), *compared(config, folder, scene)]
    trainer = fit(module, data, config, recipe, minutes, folder, shown)
    return module.network, trainer


def face_morpher_step(
    run: Run,
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
    with run.stage("face mask") as stage:
        mask = character.face_mask
        stage["detail"] = "given" if mask is not None else "computed: where facial poses change the picture"
        mask = face_mask_from_targets(targets["face"], character.image) if mask is None else mask
        save_face_mask(mask, folder / "face_mask.png")
    planned = run.planned("face_minutes", minutes)
    face, validation, posed = (targets[name] for name in ("face", "validation_face", "posed"))
    with run.stage("face morpher") as stage:
        scene = Scene(character.image, validation, mask)
        network, trainer = train_face_morpher(config, face, validation, mask, planned, folder, posed, scene, progress)
        faces = torch.cat([face.pose, posed.pose])[:, POSE_PARAMETERS.facial].unique(dim=0)  # posed ones share theirs
        stage["detail"] = f"{trainer.global_step:,} steps on {len(faces)} faces"
    return network, mask


def trained_face_morpher(config: DictConfig, folder: Path) -> FaceMorpher:
    """The network that a finished training left in ``folder``."""
    network: FaceMorpher = hydra.utils.instantiate(config.student.face_morpher)
    state = torch.load(folder / "final.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    return network.eval()


def train_body_rotator(
    config: DictConfig,
    image: Float[Tensor, "4 512 512"],
    targets: Targets,
    validation: Targets,
    minutes: float | None,
    folder: Path,
    scene: Scene | None = None,
    progress: L.Callback | None = None,
    most: int = 0,
) -> tuple[BodyRotator, L.Trainer]:
    """Trains ``config.student.body_rotator`` by ``config.recipe.body_rotator``; see :func:`train_face_morpher`.

    ``most``: poses that ``targets`` may grow to, where another process adds to them.
    """
    recipe = config.recipe.body_rotator
    errors = ErrorMap()
    module: BodyRotatorModule = student_module(config, "body_rotator", image=image, errors=errors)
    stream = hydra.utils.instantiate(recipe.stream)

    def train(**place: Any) -> Any:
        return stream(targets, errors=errors, most=most, **place)

    data = DistillDataModule(train, WholeBodies(validation, config.validation.poses), config.seed)
    shown = [progress or BudgetBar("body rotator"), *compared(config, folder, scene)]
    trainer = fit(module, data, config, recipe, minutes, folder, shown)
    return module.student(), trainer


def fit(
    module: L.LightningModule,
    data: DistillDataModule,
    config: DictConfig,
    recipe: DictConfig,
    minutes: float | None,
    folder: Path,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Runs the trainer under the recipe's budget; an earlier ``last.ckpt`` in ``folder`` is continued."""
    quiet_lightning()
    device = trainer_device(config.trainer)
    if device.type == "cpu":
        keep_freed_memory()
    budget = Budget(minutes, recipe.examples, recipe.progress_by)
    saving = ModelCheckpoint(
        folder, save_last=True, save_top_k=0, train_time_interval=SAVE_EVERY, enable_version_counter=False
    )
    final = ModelCheckpoint(folder, filename="final", save_on_train_epoch_end=True, enable_version_counter=False)
    kept = []
    if config.keep_every is not None:
        every = timedelta(minutes=config.keep_every)
        kept = [ModelCheckpoint(folder / "kept", train_time_interval=every, save_top_k=-1, save_weights_only=True)]
    settings: dict[str, Any] = placed(config.trainer)
    checks: list[L.Callback] = []
    if config.trainer.val_check_interval is None:
        checks = [Checks(config.validation.checks)]
        if not config.validation.checks:
            data.validation = None
            settings |= {"limit_val_batches": 0}
    trainer: L.Trainer = hydra.utils.instantiate(
        config.trainer,
        logger=loggers(config, folder),
        callbacks=[budget, *checks, ImageGrids(folder / "grids"), saving, final, *kept, *callbacks],
        default_root_dir=folder,
        **settings,
    )
    last = folder / "last.ckpt"
    if last.is_file():
        check_checkpoint(last, module)
    try:
        trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()  # or the next training of this process would go on in the same run
    module.eval()
    return trainer


def compared(config: DictConfig, folder: Path, scene: Scene | None) -> list[L.Callback]:
    """The callbacks of conf/callbacks, which watch the student beside its teacher; none without a scene."""
    chosen = config.get("callbacks") or {}
    if scene is None:
        return []
    return [hydra.utils.instantiate(chosen[name], _partial_=True)(scene=scene, folder=folder) for name in chosen]


def check_checkpoint(path: Path, module: L.LightningModule) -> None:
    """Refuses a checkpoint that is cut short or another network's, before the trainer trips over it.

    Raises: UserError.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = {key: tuple(value.shape) for key, value in content["state_dict"].items()}
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, pickle.UnpicklingError):
        raise UserError(
            f"{path} cannot be continued from; delete it, and the same command starts this step anew"
        ) from None
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    if found != expected:
        raise UserError(f"{path} is another network's; delete it, or give another out=")


def loggers(config: DictConfig, folder: Path) -> list[Any]:
    """The configured loggers, each writing below ``folder`` unless its ``save_dir`` says otherwise."""
    return [hydra.utils.instantiate({"save_dir": str(folder), **logger}) for logger in config.logger.values()]
