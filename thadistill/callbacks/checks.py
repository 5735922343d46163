"""Checks: validation a number of times over a training's progress, at the same step on all processes."""

from __future__ import annotations

from typing import Any

import lightning as L


class Checks(L.Callback):
    """Has the trainer validate ``count`` times at even steps of ``module.progress``, which callbacks.budget sets.

    Progress is the first process's on all of them, so all enter a check at the same step; Lightning's own intervals of
    wall-clock are decided by each process for itself. A training also ends with a check.

    Args:
        count: checks over the whole training.
    """

    def __init__(self, count: int) -> None:
        self.count, self.done = count, 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        due = int(float(pl_module.progress) * (self.count + 0.5))  # type: ignore[arg-type]
        # Lightning validates after the batches whose number, from 1, is a multiple of this
        trainer.val_check_batch = batch_idx + 1 if due > self.done else batch_idx + 2
        self.done = max(self.done, due)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.done = int(float(pl_module.progress) * (self.count + 0.5))  # type: ignore[arg-type]
