"""thadistill train: one LightningModule on cached targets; what sweeps run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from thadistill.cli.app import STARTED
from thadistill.distillation import train_one


def run(config: DictConfig, out: Path) -> float:
    """Trains ``module`` for the budget; returns the last validation PSNR."""
    return train_one(config, out, STARTED)
