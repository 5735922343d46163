"""thadistill train: one LightningModule, a student's on cached targets, a teacher's on triples."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from thadistill.cli.app import STARTED
from thadistill.cli.relaunch import relaunchable
from thadistill.files import write_json
from thadistill.pipeline.character import prepare_character
from thadistill.pipeline.distill import train_one
from thadistill.pipeline.report import given_overrides
from thadistill.processes import is_first


def run(config: DictConfig, out: Path) -> float:
    """Trains ``module`` for the budget; returns the last validation PSNR."""
    if config.module != "teacher":
        prepare_character(config)
    with relaunchable("train"):
        if config.module == "teacher":
            from thadistill.pipeline.teacher import train_teacher  # Lightning takes seconds to import

            return train_teacher(config, out)
        psnr = train_one(config, out, STARTED)
    about = {"module": config.module, "recipe": config.recipe.name, "seed": config.seed}
    if is_first():
        write_json(out / "metrics.json", {"val_psnr": psnr, **about, "overrides": given_overrides()})
    return psnr
