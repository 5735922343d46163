"""Diverged: ends a training whose loss is not finite, before it is saved as a result."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor


class TrainingDiverged(RuntimeError):
    """The loss of a training is not finite; the message is one line."""


class StopDiverged(L.Callback):
    """Looks at the loss as often as it is logged, and at the end.

    Raises: TrainingDiverged.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._look(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        if self._loss is not None and not bool(torch.isfinite(self._loss)):
            raise TrainingDiverged(
                f"the training diverged: its loss is {float(self._loss)} at step {trainer.global_step}; expected a finite "
                "one: try smaller learning rates (recipe.*.optimizer.lr) or another seed; the same command starts again"
            )
