"""Image grids: teacher | student | error of the first validation poses, at every validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from thadistill.images import save_png
from thadistill.metrics.pictures import comparison_grid


class ImageGrids(L.Callback):
    """Writes ``FOLDER/STEP.png``, and the same picture to Weights & Biases where that logger is used.

    Args:
        folder: where the pictures go.
        poses: rows of a grid. The module's ``validation_step`` returns ``teacher`` and ``student`` images [n, 4, h, w].
    """

    def __init__(self, folder: str | Path, poses: int = 3) -> None:
        self.folder, self.poses = Path(folder), poses
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pairs = []

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if len(self._pairs) < self.poses:
            self._pairs += zip(outputs["teacher"].detach().cpu(), outputs["student"].detach().cpu(), strict=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._pairs or not trainer.is_global_zero:
            return
        picture = comparison_grid(self._pairs[: self.poses], height=256)
        save_png(picture, self.folder / f"{trainer.global_step:07d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/grid", [picture], step=trainer.global_step)
