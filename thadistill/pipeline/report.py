"""Report: what a distillation says of itself, and what it was measured on."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

import thadistill
from thadistill.devices import resolve_device
from thadistill.metrics.benchmark import hardware

FIGURES = {
    "psnr": ("PSNR, network space", "dB"),
    "psnr_display": ("PSNR, sRGB on white", "dB"),
    "ssim": ("SSIM, sRGB on white", ""),
    "face_psnr": ("PSNR of the face crop", "dB"),
    "eye_mouth_psnr": ("PSNR within the face mask", "dB"),
    "flow_epe_px": ("grid change, end-point error", "px"),
    "stlpips": ("ST-LPIPS", ""),
    "lpips": ("LPIPS", ""),
}


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    packages = ("torch", "lightning", "hydra-core", "numpy")
    named = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "thadistill": thadistill.__version__, **named}


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """What a result was measured on: hardware, versions, commit. ``device``: which one; None: the GPU if there is one."""
    return {
        "hardware": hardware(resolve_device("auto") if device is None else device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "thadistill": thadistill.__version__,
        "commit": commit(),
    }


def given_overrides() -> list[str]:
    """What the command line set, but for the output folder: what a sweep's table has columns for."""
    if not HydraConfig.initialized():
        return []
    return [item for item in HydraConfig.get().overrides.task if item.partition("=")[0] != "out"]


def commit() -> str | None:
    """The checkout's commit, with + where it has changes; None outside a checkout."""
    root = Path(thadistill.__file__).parent.parent
    try:
        run = [
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return run[0] + ("+" if run[1] else "")


def figures_table(metrics: Mapping[str, Any]) -> str:
    """The figures as a Markdown table; a missing one with its reason."""
    lines = ["| figure | value |", "|---|---|"]
    for key, (title, unit) in FIGURES.items():
        value = metrics.get(key)
        reason = metrics.get(f"{key}_reason", "not computed")
        text = f"- ({reason})" if value is None else f"{value:.3f} {unit}".strip()
        lines.append(f"| {title} (`{key}`) | {text} |")
    return "\n".join(lines)


def distill_report(summary: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """report.md of a distillation: what was made, how good it is, what it took."""
    rows = [f"| {step['name']} | {step['minutes']:.2f} | {step['detail']} |" for step in summary["steps"]]
    worker = [f"| worker: {step['name']} | ({step['minutes']:.2f}) | {step['detail']} |" for step in summary["worker"]]
    steps = "\n".join(rows + worker)
    total = sum(step["minutes"] for step in summary["steps"])
    env = summary["environment"]
    minutes = summary["budget_minutes"]
    budget = "no clock: the recipe counts poses and patches" if minutes is None else f"budget {minutes:g} minutes"
    warning = ""
    if metrics["psnr"] <= summary["psnr_unmoved"]:
        warning = (
            f"**This student is no better than a picture that does not move ({metrics['psnr']:.2f} dB against "
            f"{summary['psnr_unmoved']:.2f} dB): it had too little time. Give it more, as budget_minutes=10.**\n\n"
        )
    return f"""{warning}# {summary["character"]} distilled from {summary["teacher"]}

![teacher, student, error](preview.png)

The student is in `character_model/` ({summary["size_mb"]:.2f} MB). Against its teacher on {metrics["n"]} poses it never
trained on (means of per-image values):

{figures_table(metrics)}

With the teacher's face in place of the student's, PSNR is {summary["psnr_teacher_face"]:.3f} dB (the rotator alone).
Showing the face-morphed image without moving it gives {summary["psnr_unmoved"]:.3f} dB.

| step | minutes | what |
|---|---|---|
{steps}
| all | {total:.2f} | {budget} |

Recipe `{summary["recipe"]}`, seed {summary["seed"]}, {env["hardware"]}, torch {env["torch"]}, Python {env["python"]},
thadistill {env["thadistill"]}, commit {env["commit"] or "unknown"}.
Command: `{summary["command"]}`
"""
