"""StudentVsTeacher: quality on validation poses during training: figures, the worst poses, error by pose parameter."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import Tensor

from thadistill.callbacks.comparison import Comparison, Quality
from thadistill.files import write_bytes, write_csv
from thadistill.images import save_png
from thadistill.metrics.pictures import comparison_grid
from thadistill.pose import POSE_PARAMETERS

ENOUGH = 16  # poses; halves of fewer say nothing of a single parameter


class StudentVsTeacher(L.Callback):
    """At every check: ``quality/NAME`` for QualityMetrics' names, in every logger; pictures and tables in ``folder``.

    ``worst-STEP.png`` shows the worst poses, ``poses.csv`` has the last check's row per pose, ``pose_parameters.csv`` and
    ``.png`` what error goes with each parameter, where there are 16 poses or more. Its seconds count on the training's
    budget. While there is no trained face morpher, a body rotator has the teacher's face: ``quality/psnr_teacher_face``.

    Args:
        comparison: student and teacher.
        folder: the training's; files go to ``folder/quality``.
        poses: validation poses, always the same.
        worst: rows of the picture.
        perceptual: also ``stlpips`` or ``lpips`` (seconds a pose on a CPU).
    """

    def __init__(
        self, comparison: Comparison, folder: str | Path, poses: int = 4, worst: int = 3, perceptual: Sequence[str] = ()
    ) -> None:
        self.comparison, self.folder = comparison, Path(folder) / "quality"
        self.poses, self.worst, self.perceptual = poses, worst, tuple(perceptual)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        quality = self.comparison.quality(pl_module, trainer.global_step, self.poses, self.perceptual)
        pl_module.log_dict({f"quality/{name}": value for name, value in quality.figures.items()}, rank_zero_only=True)
        self._write(trainer, quality)

    def _write(self, trainer: L.Trainer, quality: Quality) -> None:
        write_csv(self.folder / "poses.csv", quality.rows)
        shown = {}
        if worst := quality.worst(self.worst):
            captions = [f"pose {i}: {quality.ranked_by} {quality.rows[i][quality.ranked_by]:.2f} dB" for i in worst]
            picture = comparison_grid([quality.pictures[i] for i in worst], captions, height=256)
            save_png(picture, self.folder / f"worst-{trainer.global_step:07d}.png")
            shown["quality/worst"] = picture
        if len(quality.rows) >= ENOUGH:
            table = error_by_parameter(quality)
            write_csv(self.folder / "pose_parameters.csv", table)
            parameter_plot(table, self.folder / "pose_parameters.png")
            shown["quality/pose_parameters"] = Image.open(self.folder / "pose_parameters.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for name, image in shown.items():
                    logger.log_image(name, [image], step=trainer.global_step)


def error_by_parameter(quality: Quality) -> list[dict[str, Any]]:
    """A row for each pose parameter that the poses vary: how PSNR goes with its size.

    ``correlation`` is Pearson's between |value| and -PSNR, 1: error grows with it; ``psnr_low`` and ``psnr_high`` are
    the mean PSNRs of the halves of the poses where |value| is smaller and larger.
    """
    decibels = torch.tensor([row[quality.ranked_by] for row in quality.rows])
    rows = []
    for index in range(quality.poses.shape[1]):
        size = quality.poses[:, index].abs()
        if len(size) < 2 or float(size.std()) < 1e-6:
            continue
        order = size.argsort(stable=True)
        half = len(order) // 2
        row = {"parameter": POSE_PARAMETERS[index], "correlation": _pearson(size, -decibels)}
        row |= {"psnr_low": float(decibels[order[:half]].mean()), "psnr_high": float(decibels[order[-half:]].mean())}
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    return rows


def _pearson(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 0 else 0.0


def parameter_plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A bar a parameter: by how many dB the poses with more of it are worse than those with less."""
    from matplotlib.figure import Figure  # a second to import

    ranked = sorted(rows, key=lambda row: row["psnr_low"] - row["psnr_high"])
    figure = Figure(figsize=(6, 1 + 0.17 * len(ranked)), layout="constrained")
    axes = figure.add_subplot()
    loss = [row["psnr_low"] - row["psnr_high"] for row in ranked]
    axes.barh([row["parameter"] for row in ranked], loss, color=["C3" if x > 0 else "C0" for x in loss])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("dB lost between poses with little and with much of it")
    axes.margins(y=0.01)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    write_bytes(path, file.getvalue())
