"""Teacher training: a teacher's network from a composed configuration, on triples, continuing where it was interrupted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from lightning import seed_everything
from omegaconf import DictConfig
from torch import nn

from thadistill.callbacks import BudgetBar
from thadistill.console import console, progress_bar
from thadistill.data.datamodule import DistillDataModule
from thadistill.data.triples import Split, TripleBatches, TripleStream
from thadistill.devices import trainer_device
from thadistill.errors import UserError
from thadistill.files import replacing
from thadistill.lit.perceptual_loss import PerceptualLoss
from thadistill.lit.teacher import Phase, TeacherModule, near_identity_init
from thadistill.pipeline.fit import fit
from thadistill.pipeline.report import commit, given_overrides, versions
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import budget_of
from thadistill.teacher.face_stages import FaceStages
from thadistill.teacher.tha4 import BodyMorpher, Upscaler
from thadistill.teacher.weights import load_networks

NETWORKS = ("body_morpher", "upscaler", "face_stages")


def train_teacher(config: DictConfig, out: Path) -> float:
    """Trains ``config.stage.network`` of a teacher for the budget; returns the last validation PSNR.

    Leaves checkpoints, and each network as ``NAME.pt`` under the published tensor names: what ``init=`` and ``coarse=``
    read, and, at the paper's sizes, ``teacher.weights=``.

    Raises: UserError.
    """
    trainer_device(config.trainer)
    run = RunFolder(out, config)
    with run.alone():
        return _train(config, out, run)


def _train(config: DictConfig, out: Path, run: RunFolder) -> float:
    run.record(config, {"commit": commit(), "versions": versions(), "overrides": given_overrides()})
    seed_everything(config.seed, verbose=False)
    module = build_module(config)
    split = build_split(config)
    console.print(
        f"{config.stage.name}: {sum(p.numel() for p in module.network.parameters()) / 1e6:.1f} M parameters, "
        f"perceptual features: {perceptual_name(module)}"
    )
    data = DistillDataModule(
        partial(TripleStream, split.train, config.stage.batch_size),
        TripleBatches(split.test, config.validation.triples),
        config.seed,
    )
    minutes = budget_of(config)
    trainer = fit(module, data, config, config.stage, minutes, out, BudgetBar(config.stage.name))
    if trainer.is_global_zero:
        for name, network in named_networks(config.stage.name, module.network).items():
            with replacing(out / f"{name}.pt") as temporary:
                torch.save(network.state_dict(), temporary)
    return float(trainer.callback_metrics.get("val/psnr", float("nan")))


def build_module(config: DictConfig) -> TeacherModule:
    """The module of ``config.stage``, started from ``init`` if that is given.

    Raises: UserError.
    """
    stage = config.stage
    if stage.name not in NETWORKS:
        raise UserError(f"stage.name={stage.name}; expected one of {', '.join(NETWORKS)}")
    network: nn.Module = hydra.utils.instantiate(stage.network)
    if config.init is not None:
        load_networks(nn.ModuleDict(named_networks(stage.name, network)), Path(config.init), torch.float32)
    elif isinstance(network, BodyMorpher | Upscaler | FaceStages):
        near_identity_init(network)
    coarse: BodyMorpher | None = None
    if stage.coarse is not None:
        coarse = hydra.utils.instantiate(stage.coarse_network)
        assert isinstance(coarse, BodyMorpher)
        load_one("body_morpher", coarse, Path(stage.coarse))
    weighed = any(phase.get("perceptual", 0.0) for phase in stage.phases)
    perceptual = PerceptualLoss(stage.perceptual) if weighed and stage.perceptual is not None else None
    made: TeacherModule = hydra.utils.instantiate(
        config.modules.teacher,
        network=network,
        phases=[Phase(**phase) for phase in stage.phases],
        perceptual=perceptual,
        coarse=coarse,
    )
    return made


def named_networks(stage: str, network: nn.Module) -> dict[str, nn.Module]:
    """The published networks that a stage trains, by name."""
    return dict(network.named_children()) if isinstance(network, FaceStages) else {stage: network}


def perceptual_name(module: TeacherModule) -> str:
    """Which features its loss compares; "none" where no phase weighs any."""
    return module._perceptual[0].name if module._perceptual else "none"


def load_one(name: str, network: nn.Module, source: Path) -> None:
    """Fills ``network`` from ``NAME.pt`` in a folder, or in the published ZIP.

    Raises: UserError.
    """
    load_networks(nn.ModuleDict({name: network}), source, torch.float32)


def build_split(config: DictConfig) -> Split:
    """The triples of ``config.triples``; puppets are rendered under a progress bar."""
    with progress_bar(transient=True) as bar:
        task = bar.add_task("triples", total=1.0, note="")

        def report(share: float) -> None:
            bar.update(task, completed=share)

        wanted: dict[str, Any] = {"report": report} if config.triples._target_.endswith("puppet_split") else {}
        return hydra.utils.instantiate(config.triples, **wanted)
