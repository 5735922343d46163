"""thadistill distill: cache, face morpher, body rotator, evaluation."""

from __future__ import annotations

import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from thadistill.cli.app import STARTED
from thadistill.cli.relaunch import relaunchable
from thadistill.console import console, shown
from thadistill.pipeline.character import prepare_character
from thadistill.pipeline.distill import distill


def run(config: DictConfig, out: Path) -> float:
    """Distils and says where the result lies; returns the PSNR, which sweeps optimise."""
    prepare_character(config)
    with relaunchable("distill"):
        metrics = distill(config, out, STARTED)
    if not metrics:
        return float("nan")
    if config.init is None and HydraConfig.get().runtime.choices.get("recipe") == "warm":
        note = "trained from random weights, as recipe=fast: no pretrained init for this student and teacher"
        console.print(note, soft_wrap=True)
    console.print(
        f"psnr {metrics['psnr']:.2f} dB (shown unmoved: {metrics['psnr_unmoved']:.2f}), "
        f"face {metrics['face_psnr']:.2f} dB: see {shown(out) / 'report.md'}, {shown(out) / 'preview.png'}",
        soft_wrap=True,
    )
    console.print(
        f"see it move: thadistill serve model={shlex.quote(str(shown(out) / 'character_model'))}",
        soft_wrap=True,
    )
    return float(metrics["psnr"])
